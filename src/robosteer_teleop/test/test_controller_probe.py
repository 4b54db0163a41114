"""The probe of the impedance controller, over real DDS in this process.

Pins: an old controller that is steered although it spikes; a controller that does not answer and is steered; a second
publisher on the target topic, which silences the controller.
"""

import os

import pytest


@pytest.fixture(scope="module")
def ros():
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    patch = pytest.MonkeyPatch()
    patch.setenv("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    nodes = []

    def make(name, **parameters):
        node = rclpy.create_node(name, context=context)
        for key, value in parameters.items():
            node.declare_parameter(key.replace("__", "."), value)
        executor.add_node(node)
        nodes.append(node)
        return node

    yield make, executor
    executor.shutdown()
    for node in nodes:
        node.destroy_node()
    context.shutdown()
    patch.undo()


def ask(executor, probe, done):
    for _ in range(600):
        probe.poll()
        if done(probe):
            return
        executor.spin_once(timeout_sec=0.05)
    raise AssertionError(probe.refusal)


def test_a_new_controller_is_read_back_and_an_old_one_refused(ros):
    from robosteer_teleop.nodes.controller_probe import ControllerProbe, require_target_topic

    make, executor = ros
    client = make("teleop")
    make("new_controller", filter__q_ref=0.1, task__k_pos_x=600.0, base_frame="link0", use_gravity_compensation=False)
    make("old_controller", filter__target_pose=0.1)
    new = ControllerProbe(client, "/new_controller")
    assert new.refusal
    ask(executor, new, lambda probe: not probe.refusal)
    assert new.parameters["filter.q_ref"] == 0.1
    assert new.parameters["task.k_pos_x"] == 600.0
    assert (new.parameters["base_frame"], new.parameters["use_gravity_compensation"]) == ("link0", False)
    old = ControllerProbe(client, "/old_controller")
    ask(executor, old, lambda probe: "filter.q_ref" in probe.refusal)
    assert "crisp_controllers 2.1" in old.refusal
    absent = ControllerProbe(client, "/nobody", patience_s=0.0)
    absent.poll()
    assert "found no node /nobody" in absent.refusal

    from geometry_msgs.msg import PoseStamped

    client.create_publisher(PoseStamped, "/target_pose", 1)
    assert require_target_topic(client, "/target_pose") == ""
    make("rival").create_publisher(PoseStamped, "/target_pose", 1)
    for _ in range(200):
        executor.spin_once(timeout_sec=0.05)
        if found := require_target_topic(client, "/target_pose"):
            break
    assert "found publishers rival" in found
