// The socket: hello, token, pings, reconnection. Poses are never queued.
import { FRAME_SIZE } from "./frame";
import { Close, VERSION, clock, type Down, type Role } from "./messages";

const RETRY_MS = [100, 250, 500, 1000, 2000];
const FINAL: number[] = [Close.credentials, Close.operatorTaken, Close.replaced, Close.locked];

export interface LinkEvents {
  message(message: Down): void;
  image(camera: number, jpeg: Blob): void;
  // `final`: the server said no; the operator has to do something.
  closed(code: number, reason: string, final: boolean): void;
}

export class Link {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private timer = 0;
  private code: string | null = null;
  connected = false;

  constructor(
    readonly role: Role,
    private readonly events: LinkEvents,
  ) {}

  get hasToken(): boolean {
    return this.token !== null;
  }

  // Connect with a code, or with the token of an earlier time.
  connect(code: string | null): void {
    this.code = code;
    clearTimeout(this.timer);
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.hello(socket);
    socket.onmessage = (event) => this.take(event.data as string | ArrayBuffer);
    socket.onclose = (event) => this.onClose(socket, event);
    this.socket = socket;
  }

  close(forget: boolean): void {
    if (forget) this.token = null;
    clearTimeout(this.timer);
    this.connected = false;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  send(message: Record<string, unknown>): void {
    if (this.open) this.socket?.send(JSON.stringify(message));
  }

  // Send a frame unless two are waiting already: a late pose is worth nothing.
  sendFrame(data: ArrayBuffer): void {
    if (this.open && this.socket && this.socket.bufferedAmount < 2 * FRAME_SIZE) this.socket.send(data);
  }

  private get open(): boolean {
    return this.connected && this.socket?.readyState === WebSocket.OPEN;
  }

  private get storageKey(): string {
    return `robosteer.token.${this.role}`;
  }

  private get token(): string | null {
    return localStorage.getItem(this.storageKey);
  }

  private set token(value: string | null) {
    if (value === null) localStorage.removeItem(this.storageKey);
    else localStorage.setItem(this.storageKey, value);
  }

  private hello(socket: WebSocket): void {
    const proof = this.code !== null ? { code: this.code } : { token: this.token };
    socket.send(JSON.stringify({ type: "hello", v: VERSION, role: this.role, ...proof }));
  }

  private take(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      this.events.image(new DataView(data).getUint16(2, true), new Blob([data.slice(16)], { type: "image/jpeg" }));
      return;
    }
    const message = JSON.parse(data) as Down;
    if (message.type === "ping") {
      this.send({ type: "pong", id: message.id, client_s: clock() });
      return;
    }
    if (message.type === "welcome") {
      this.token = message.token;
      this.code = null;
      this.connected = true;
      this.attempt = 0;
    }
    this.events.message(message);
  }

  private onClose(socket: WebSocket, event: CloseEvent): void {
    if (socket !== this.socket) return; // closed by us
    this.connected = false;
    const final = FINAL.includes(event.code) || (this.code === null && !this.hasToken);
    if (event.code === Close.credentials) this.token = null;
    if (!final) {
      const wait = RETRY_MS[Math.min(this.attempt++, RETRY_MS.length - 1)];
      this.timer = window.setTimeout(() => this.connect(this.code), wait);
    }
    this.events.closed(event.code, event.reason, final);
  }
}
