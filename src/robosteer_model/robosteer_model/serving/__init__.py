"""openpi's websocket protocol: a policy server and a client, with limits on everything that a peer sends."""
