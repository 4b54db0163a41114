"""`robosteer checkpoint` and `robosteer serve`.

Pins: inspect reads no arrays; verify finds NaN and returns 1; a merged checkpoint loads without LoRA and acts the same;
diff names the heads that changed; serve needs a token beyond loopback.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny import droid_observation, tiny_checkpoint

from robosteer_model import checkpoint_report
from robosteer_model.checkpoint import load_checkpoint, save_checkpoint
from robosteer_model.commands import checkpoint as command
from robosteer_model.commands import serve
from robosteer_model.digest import params_digest
from robosteer_model.errors import ModelError
from robosteer_model.params import flatten, unflatten
from robosteer_model.pi0 import velocity
from robosteer_model.serving.client import PolicyClient
from robosteer_model.transforms import Transforms


def output(capsys, *argv):
    code = command.main([str(word) for word in argv])
    return code, capsys.readouterr().out


def test_inspect_reads_no_arrays(saved, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint_report, "read_leaf", None)
    code, text = output(capsys, "inspect", saved, "--json")
    contents = json.loads(text)
    assert code == 0
    assert contents["model_type"] == "pi05"
    assert contents["asset_ids"] == ["droid"]
    assert set(contents["lora"].values()) == {2}
    assert "leaves" not in contents
    code, text = output(capsys, "inspect", saved, "--leaves")
    assert "action_in_proj/kernel" in text


def test_verify_finds_nan(saved, tmp_path, capsys):
    assert output(capsys, "verify", saved) == (0, f"{saved}: sound\n")
    checkpoint = tiny_checkpoint()
    flat = flatten(checkpoint.params)
    flat["action_in_proj/bias"][3] = np.nan
    checkpoint.params["action_in_proj"]["bias"] = flat["action_in_proj/bias"]
    path = save_checkpoint(tmp_path / "c", checkpoint)
    code, text = output(capsys, "verify", path, "--json")
    assert code == 1
    assert json.loads(text)["problems"] == [
        "checkpoint leaf action_in_proj/bias: found 1 NaN or infinite values, expected finite ones; train again"
    ]


def test_verify_finds_wrong_shapes_statistics_and_tokenizers(saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "c")
    (path / "assets/tokenizer.model").write_bytes(b"garbage")
    stats = path / "assets/droid/norm_stats.json"
    stats.write_text(stats.read_text().replace('"std": [', '"std": [1.0,', 1))
    problems = checkpoint_report.verify(path, "pi05_droid")
    assert len(problems) == 4
    expected = ("leaves differ", "changed or missing", "std: found shape (9,), expected (8,)", "SentencePiece")
    assert all(text in problem for text, problem in zip(expected, problems, strict=True))


def test_merged_checkpoint_predicts_the_same(saved, tmp_path, capsys):
    code, _ = output(capsys, "merge", saved, tmp_path / "merged")
    assert code == 0
    adapted, merged = load_checkpoint(saved), load_checkpoint(tmp_path / "merged")
    assert merged.config.paligemma.lora_attn is None
    assert not any("lora" in path for path in flatten(merged.params))
    assert merged.provenance["merged_from"] == params_digest(adapted.params)  # its directory is nobody's business
    assert merged.tokenizer == adapted.tokenizer
    transforms = Transforms.of(adapted)
    observation = transforms.observation(transforms.inputs(droid_observation()))
    x = np.random.default_rng(0).standard_normal((1, 5, 10)).astype(np.float32)
    time = np.full(1, 0.5, np.float32)
    found = [velocity(c.params, c.config, observation, x, time)[0] for c in (adapted, merged)]
    np.testing.assert_allclose(found[0], found[1], rtol=2e-4, atol=2e-4)
    with pytest.raises(ModelError, match="found no LoRA leaves"):
        command.main(["merge", str(tmp_path / "merged"), str(tmp_path / "again")])


def test_diff_names_changed_heads(saved, tmp_path, capsys):
    checkpoint = load_checkpoint(saved)
    flat = {path: np.array(leaf) for path, leaf in flatten(checkpoint.params).items()}
    flat["PaliGemma/llm/layers/attn/q_einsum/w"][1, 0, 2, 3] += 0.5
    changed = tiny_checkpoint(lora=True)
    changed.params.clear()
    changed.params.update(unflatten(flat))
    path = save_checkpoint(tmp_path / "c", changed)
    code, text = output(capsys, "diff", saved, path, "--json")
    assert code == 1
    (change,) = json.loads(text)
    assert change["path"] == "PaliGemma/llm/layers/attn/q_einsum/w"
    assert change["heads"] == [[1, 0]]
    assert output(capsys, "diff", saved, saved) == (0, "identical\n")


def test_diff_of_other_structures(saved, tmp_path):
    path = save_checkpoint(tmp_path / "c", tiny_checkpoint(action_dim=9))
    kinds = {change.path: change.kind for change in checkpoint_report.diff(saved, path)}
    assert kinds["action_in_proj/kernel"] == "shape"
    assert kinds["PaliGemma/llm/layers/attn/q_einsum/lora_a"] == "only in A"


def test_serve_answers_a_client(saved):
    program = "import sys; from robosteer_model.commands.serve import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, str(saved), "--port", "0", "--num-steps", "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            port = int(lines[1].split("127.0.0.1:")[1].split()[0])
            with PolicyClient(port=port, timeout_s=60) as client:
                assert client.infer(droid_observation())["actions"].shape == (5, 8)
        finally:
            process.terminate()


def test_serve_needs_a_token_beyond_loopback(saved, tmp_path):
    with pytest.raises(ModelError, match="without a token"):
        serve.main([str(saved), "--host", "0.0.0.0"])  # noqa: S104
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ModelError, match="found it empty"):
        serve.read_token(tmp_path / "token")


@pytest.mark.parametrize("main", [command.main, serve.main])
def test_help_and_usage(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["--no-such-option"])
    assert stopped.value.code == 2
