"""The launcher's reading of a launch file.

Pins: `ros2 launch`'s command lines (order of --ros-args, __node, __ns, parameter files, remappings); parameter typing
by YAML; a condition that is no truth value; scopes that leak arguments, namespaces or environment; a construct outside
the subset that is silently skipped; a typing error in an argument's name that is silently ignored.
"""

import sys
from pathlib import Path

import pytest
import yaml

from robosteer_bringup.launcher import command
from robosteer_bringup.launcher.errors import LaunchError, UnsupportedConstructError
from robosteer_bringup.launcher.importer import launch_api


def parameters(words: list[str]) -> dict:
    return yaml.safe_load(Path(words[words.index("--params-file") + 1]).read_text())


def test_command_line_has_the_order_of_ros2_launch(bench) -> None:
    (bench.root / "p.yaml").write_text("/**: {ros__parameters: {a: 1}}")
    [words] = bench.commands(
        f"""Node(package="demo", executable="node", name="n", namespace="left", arguments=["--x", "1"],
        ros_arguments=["--log-level", "debug"], parameters=[{{"rate": 5}}, "{bench.root}/p.yaml"],
        remappings=[("in", "/out"), ("a", "b")])"""
    )
    generated = words[words.index("--params-file") + 1]
    assert words == [
        *("node", "--x", "1", "--ros-args", "--log-level", "debug", "--ros-args"),
        *("-r", "__node:=n", "-r", "__ns:=/left", "--params-file", generated),
        *("--params-file", f"{bench.root}/p.yaml", "-r", "in:=/out", "-r", "a:=b"),
    ]
    assert parameters(words) == {"/left/n": {"ros__parameters": {"rate": 5}}}


def test_node_without_a_name_gets_parameters_for_any_name(bench) -> None:
    [words] = bench.commands('Node(package="demo", executable="node", parameters=[{"a": {"b": 1.5}, "c": [1, 2.0]}])')
    assert words[:2] == ["node", "--ros-args"]
    assert parameters(words) == {"/**": {"ros__parameters": {"a.b": 1.5, "c": [1.0, 2.0]}}}


@pytest.mark.parametrize(
    ("value", "given", "expected"),
    [
        ('LaunchConfiguration("v")', "3", 3),
        ('LaunchConfiguration("v")', "[1, 2]", [1, 2]),
        ('LaunchConfiguration("v")', "pick up red cube", "pick up red cube"),
        ('LaunchConfiguration("v")', "", ""),
        ('ParameterValue(LaunchConfiguration("v"), value_type=str)', "3", "3"),
        ('ParameterValue(LaunchConfiguration("v"), value_type=float)', "3", 3.0),
        ('ParameterValue(LaunchConfiguration("v"), value_type=bool)', "True", True),
        ('["seed ", LaunchConfiguration("v")]', "3", "seed 3"),
        ('"3"', "unused", "3"),
    ],
)
def test_parameter_types(bench, value: str, given: str, expected: object) -> None:
    [words] = bench.commands(f'Node(package="demo", executable="node", parameters=[{{"p": {value}}}])', v=given)
    found = parameters(words)["/**"]["ros__parameters"]["p"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", ['[1, "a"]', "[]", "None", 'LaunchConfiguration("v")'])
def test_parameters_that_ros_cannot_hold_are_refused(bench, value: str) -> None:
    with pytest.raises(LaunchError, match="parameter"):
        bench.commands(f'Node(package="demo", executable="node", parameters=[{{"p": {value}}}])', v="{a: 1}")


def test_arguments_take_the_given_value_or_the_default_and_obey_choices(bench) -> None:
    text = (
        'DeclareLaunchArgument("x", default_value="one", choices=["one", "two"]), LogInfo(msg=LaunchConfiguration("x"))'
    )
    assert bench.plan(text).messages == ["one"]
    assert bench.plan(text, x="two").messages == ["two"]
    with pytest.raises(LaunchError, match="x: found 'three', expected one of one, two"):
        bench.plan(text, x="three")
    with pytest.raises(LaunchError, match="y: found no value"):
        bench.plan('DeclareLaunchArgument("y", description="the y")')


def test_unknown_argument_names_are_refused_with_the_nearest(bench) -> None:
    path = bench.file('DeclareLaunchArgument("checkpoint", default_value="x")')
    with pytest.raises(LaunchError, match="checkpont: found no such argument; did you mean checkpoint"):
        command.main(["--builtin", "--dry-run", str(path), "checkpont:=y"])
    with pytest.raises(LaunchError, match="found 'checkpoint=y', expected name:=value"):
        command.main(["--builtin", "--dry-run", str(path), "checkpoint=y"])


def test_show_args_lists_arguments_of_included_files_but_not_those_that_the_include_sets(bench) -> None:
    inner = bench.file(
        'DeclareLaunchArgument("fixed"), DeclareLaunchArgument("open", default_value="1", description="an open one")',
        "inner.launch.py",
    )
    outer = bench.file(
        f"""DeclareLaunchArgument("outer", default_value=["a", LaunchConfiguration("b")], choices=["ab", "ac"]),
        GroupAction([IncludeLaunchDescription("{inner}", launch_arguments=[("fixed", "1")])])""",
        "outer.launch.py",
    )
    assert command.main(["--builtin", "--show-args", str(outer)]) == 0
    shown = bench.capsys.readouterr().out
    assert "outer:" in shown
    assert "one of: ab, ac" in shown
    assert "(default: 'a' + LaunchConfiguration('b'))" in shown
    assert "open:\n        an open one\n        (default: 1)" in shown
    assert "fixed:" not in shown


def test_show_args_shows_defaults_as_one_would_type_them(bench) -> None:
    path = bench.file(
        """DeclareLaunchArgument("who", default_value="person", choices=["", "person", "script"]),
        DeclareLaunchArgument("fast", default_value="false"),
        DeclareLaunchArgument("text", default_value="two words"),
        DeclareLaunchArgument("copy", default_value=[LaunchConfiguration("text"), "!"]),
        DeclareLaunchArgument("wait", default_value=IfElseSubstitution(
            EqualsSubstitution(LaunchConfiguration("who"), "script"), "0.0", "3.0")),
        DeclareLaunchArgument("file", default_value=PathJoinSubstitution([
            "/etc", IfElseSubstitution(LaunchConfiguration("fast"), "fast.yaml", "slow.yaml")]))"""
    )

    def defaults(*words: str) -> list[str]:
        assert command.main(["--builtin", "--show-args", str(path), *words]) == 0
        lines = bench.capsys.readouterr().out.splitlines()
        return [line.strip()[10:-1] for line in lines if "(default:" in line][:6]

    slow = "/etc/slow.yaml; with fast:=true: /etc/fast.yaml"
    assert defaults() == ["person", "false", "'two words'", "'two words!'", "3.0; with who:=script: 0.0", slow]
    assert defaults("who:=script", "fast:=true", "text:=x")[3:] == ["'x!'", "0.0", "/etc/fast.yaml"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('IfCondition("true")', True),
        ('IfCondition("0")', False),
        ('UnlessCondition(" False ")', True),
        ('IfCondition(EqualsSubstitution("1", "1.0"))', True),
        ('IfCondition(EqualsSubstitution("True", "1"))', True),
        ('IfCondition(NotEqualsSubstitution("a", "b"))', True),
        ('IfCondition(AndSubstitution("true", NotSubstitution("true")))', False),
        ('IfCondition(OrSubstitution("true", "false"))', True),
        ("IfCondition(PythonExpression([\"'\", LaunchConfiguration('v'), \"' in ['a', 'b'] and 1 < 2 <= 2\"]))", True),
        ('IfCondition(IfElseSubstitution("false", "nonsense", "true"))', True),
    ],
)
def test_conditions(bench, condition: str, expected: bool) -> None:
    assert bench.plan(f'LogInfo(msg="on", condition={condition})', v="a").messages == (["on"] if expected else [])


def test_condition_that_is_no_truth_value(bench) -> None:
    with pytest.raises(LaunchError, match="found 'yes', expected true, 1, false or 0"):
        bench.plan('LogInfo(msg="", condition=IfCondition(LaunchConfiguration("v")))', v="yes")


@pytest.mark.parametrize("expression", ["open('x')", "().__class__", "[a for a in 'x']", "1 is 1", "2 ** 9"])
def test_python_expression_runs_no_code(bench, expression: str) -> None:
    with pytest.raises(UnsupportedConstructError, match="PythonExpression"):
        bench.plan(f"LogInfo(msg=PythonExpression({expression!r}))")


def test_include_shares_arguments_and_a_group_keeps_them_in(bench) -> None:
    inner = bench.file(
        """DeclareLaunchArgument("x", default_value="inner default"), LogInfo(msg=["in ", LaunchConfiguration("x")]),
        SetLaunchConfiguration("x", "changed"), LogInfo(msg=ThisLaunchFileDir())""",
        "inner.launch.py",
    )
    source = f'PythonLaunchDescriptionSource("{inner}")'
    after = 'LogInfo(msg=["after ", LaunchConfiguration("x", default="unset")])'
    include = f'IncludeLaunchDescription({source}, launch_arguments=[("x", "given")])'
    here = str(bench.root)
    assert bench.plan(f"{include}, {after}").messages == ["in given", here, "after changed"]
    assert bench.plan(f"GroupAction([{include}]), {after}").messages == ["in given", here, "after unset"]
    assert bench.plan(f"GroupAction([{include}], scoped=False), {after}").messages[-1] == "after changed"


def test_group_scopes_namespace_environment_and_arguments(bench) -> None:
    plan = bench.plan(
        """GroupAction([PushRosNamespace("cell"), SetEnvironmentVariable("FOO", "bar"), PushRosNamespace("left"),
            Node(package="demo", executable="node"), Node(package="demo", executable="node", namespace="arm"),
            Node(package="demo", executable="node", namespace="/top")],
            launch_configurations={"x": "1"}),
        Node(package="demo", executable="node", additional_env={"ONLY": "here"})"""
    )
    spaces = [spec.command[spec.command.index("-r") + 1] if "-r" in spec.command else None for spec in plan.processes]
    assert spaces == ["__ns:=/cell/left", "__ns:=/cell/left/arm", "__ns:=/top", None]
    assert [spec.environment.get("FOO") for spec in plan.processes] == ["bar", "bar", "bar", None]
    assert [spec.environment.get("ONLY") for spec in plan.processes] == [None, None, None, "here"]


@pytest.mark.parametrize("text", ['PushRosNamespace("a-b")', 'Node(package="demo", executable="node", name="a/b")'])
def test_names_that_ros_refuses(bench, text: str) -> None:
    with pytest.raises(LaunchError, match="letters, digits and underscores"):
        bench.plan(text)


def test_processes_are_numbered_through_the_whole_launch(bench) -> None:
    plan = bench.plan(
        """Node(package="demo", executable="node"), ExecuteProcess(cmd=["echo", "hi"]),
        Node(package="demo", executable="other", exec_name="renamed")"""
    )
    assert [spec.name for spec in plan.processes] == ["node-1", "echo-2", "renamed-3"]


def test_substitutions_of_paths_environment_and_commands(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    plan = bench.plan(
        """LogInfo(msg=PathJoinSubstitution([FindPackageShare("demo"), "a", "b.yaml"])),
        LogInfo(msg=[EnvironmentVariable("SET"), EnvironmentVariable("UNSET", default_value="2")]),
        LogInfo(msg=Command(["echo ", "x y"])), LogInfo(msg=FindExecutable(name="sh")),
        LogInfo(msg=FindPackagePrefix("demo"))"""
    )
    assert plan.messages[:3] == [f"{bench.prefix}/share/demo/a/b.yaml", "12", "x y\n"]
    assert plan.messages[3].endswith("/sh")
    assert plan.messages[4] == str(bench.prefix)
    for text in ('EnvironmentVariable("UNSET")', 'Command("false")', 'Command("no-such-program")'):
        with pytest.raises(LaunchError):
            bench.plan(f"LogInfo(msg={text})")


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("from launch.actions import AppendEnvironmentVariable", "launch.actions.AppendEnvironmentVariable"),
        ("import launch.actions\nlaunch.actions.UnsetEnvironmentVariable", "launch.actions.UnsetEnvironmentVariable"),
        ("from launch_ros.actions import ComposableNodeContainer", "launch_ros.actions.ComposableNodeContainer"),
        ("from launch.frontend import Parser", "launch.frontend"),
        ("import launch_ros.descriptions", "launch_ros.descriptions"),
        ("from launch_ros.actions import Node\nNode(executable='x', emulate_tty=True)", r"Node\(emulate_tty=...\)"),
        ("from launch_ros.actions import Node\nNode(executable='x', respawn=True)", r"Node\(respawn=True\)"),
        (
            "from launch.actions import ExecuteProcess\nExecuteProcess(cmd=['x'], shell=True)",
            r"ExecuteProcess\(shell=...\)",
        ),
        (
            "from launch.actions import GroupAction\nGroupAction([], forwarding=False)",
            r"GroupAction\(forwarding=False\)",
        ),
        ("from launch.substitutions import *\nPathJoinSubstitution([['a', 'b']])", r"PathJoinSubstitution\(.*\)"),
        ("from launch.event_handlers import OnProcessIO", "launch.event_handlers.OnProcessIO"),
    ],
)
def test_constructs_outside_the_subset_are_refused_by_name(bench, text: str, construct: str) -> None:
    path = bench.root / "x.launch.py"
    path.write_text(text)
    with pytest.raises(UnsupportedConstructError, match=rf"{construct}: outside the subset.*use ros2 launch"):
        command.main(["--builtin", str(path)])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = (", "line 1"),
        ("\n\nundefined_name", "line 3: NameError"),
        ("import moveit_configs_utils", "No module named 'moveit_configs_utils'; it needs a ROS 2 installation"),
        ("x = 1", "found no generate_launch_description"),
        ("def generate_launch_description(): return 3", "found 3, expected a LaunchDescription"),
        (
            "from launch import LaunchDescription as L\ndef generate_launch_description(): return L([print])",
            "print",
        ),
    ],
)
def test_broken_launch_files_are_one_line(bench, text: str, complaint: str) -> None:
    path = bench.root / "x.launch.py"
    path.write_text(text)
    with pytest.raises(LaunchError) as caught:
        command.main(["--builtin", str(path)])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_packages_files_and_executables_say_what_there_is(bench) -> None:
    with pytest.raises(LaunchError, match=r"franka_bringup: found in none of .* need a ROS 2 installation"):
        bench.plan('LogInfo(msg=FindPackageShare("franka_bringup"))')
    with pytest.raises(LaunchError, match="found no executable 'nod', expected one of node, other"):
        bench.plan('Node(package="demo", executable="nod")')
    with pytest.raises(LaunchError, match=r"expected one of .*record.launch.py"):
        command.main(["--builtin", "robosteer_bringup", "recrod.launch.py"])
    with pytest.raises(UnsupportedConstructError, match=r"launch file demo.launch.yaml"):
        bench.plan(f'IncludeLaunchDescription("{bench.root}/demo.launch.yaml")')


def test_a_function_sees_the_context_and_returns_what_comes_next(bench) -> None:
    function = """lambda context, word, *, end: [
        LogInfo(msg=word + context.launch_configurations["a"] + end),
        *([ExecuteProcess(cmd=["echo", "more"])] if context.launch_configurations["a"] == "1" else [])]"""
    entity = f"""DeclareLaunchArgument("a"),
        OpaqueFunction(function={function}, args=["x"], kwargs={{"end": "."}}),
        OpaqueFunction(function=lambda _: None)"""
    assert bench.plan(entity, a="1").messages == ["x1."]
    assert bench.commands(entity, a="1") == [["echo", "more"]]
    assert bench.commands(entity, a="2") == []


@pytest.mark.parametrize(("function", "complaint"), [("3", "found function=3"), ("lambda _: [7]", "found 7, expected")])
def test_a_function_that_is_none_or_returns_no_entities(bench, function: str, complaint: str) -> None:
    with pytest.raises(LaunchError, match=f"OpaqueFunction: {complaint}"):
        bench.plan(f"OpaqueFunction(function={function})")


def test_an_action_runs_once(bench) -> None:
    with pytest.raises(LaunchError, match="second execution"):
        bench.plan("*[Node(package='demo', executable='node')] * 2")


def test_the_launch_api_is_gone_after_the_launch(bench) -> None:
    with launch_api():
        import launch.actions  # noqa: F401
    assert not [name for name in sys.modules if name.split(".")[0] in ("launch", "launch_ros")]
    with pytest.raises(ModuleNotFoundError), launch_api():
        import launch_testing  # noqa: F401
