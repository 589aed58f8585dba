"""A run's network in one file for other programs: ONNX, or torch.export's own."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.errors import UserError
from tl_runner.predict.inputs import Pictures, Texts, Vectors
from tl_runner.predict.run import Trained

EXAMPLES = 4  # random images that both are asked about
LARGEST = 2_000_000_000  # bytes of weights that an ONNX file holds itself


class Predictor(nn.Module):
    """Network with its preprocessing, as other programs call it.

    Images, float32 (B, C, H, W) in [0, 1], or vectors as they are in files, float32 (B, d), to
    (logits, probabilities), (B, K); or to (numbers,), (B, 1).
    """

    input_mean: Tensor  # names of its own: an exporter calls what it computes ``mean``
    input_deviation: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.method, self.phase, self.vectors, self.classes = (
            trained.method,
            trained.phase,
            isinstance(trained.inputs, Vectors),
            bool(trained.classes),
        )
        scale = trained.outline.scale or {"mean": [0.0], "deviation": [1.0]}
        self.register_buffer("input_mean", torch.tensor(scale["mean"]), persistent=False)
        self.register_buffer("input_deviation", torch.tensor(scale["deviation"]), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = (
            ((images - self.input_mean) / self.input_deviation)[:, :, None, None]
            if self.vectors
            else images
        )
        logits = self.phase.outputs.predict(x).float()
        return (logits, logits.softmax(1)) if self.classes else (logits,)


def export(trained: Trained, file: Path) -> str:
    """Write the network to ``file``, .onnx or .pt2, and return in words what was written.

    Batches may be of any size.

    Raises:
        UserError: the file cannot be written, or a package that writes it is missing.
    """
    if isinstance(trained.inputs, Texts):
        raise UserError(
            f"--export {file}: a network of texts stands on a tokenizer, which neither format "
            "holds. tl-predict reads texts from the run's folder."
        )
    vectors = isinstance(trained.inputs, Vectors)
    trained.method.to("cpu").to(memory_format=torch.contiguous_format)
    predictor = Predictor(trained).eval()
    shape = trained.outline.shape[:1] if vectors else trained.outline.shape
    images = torch.rand(EXAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    shapes = {"images": {0: torch.export.Dim("batch")}}
    about = {
        key: json.dumps(value, ensure_ascii=False) for key, value in description(trained).items()
    }
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters, about themselves
            expected = predictor(images)[-1]
            if file.suffix == ".onnx":
                found = _onnx(predictor, images, shapes, about, file)
            else:
                program = torch.export.export(predictor, (images,), dynamic_shapes=shapes)
                torch.export.save(program, file, extra_files=about)
                found = torch.export.load(file).module()(images)[-1]
    except OSError as error:
        raise UserError(
            f"--export {file}: it cannot be written ({error.strerror or error})."
        ) from error
    except UserError:
        raise
    except Exception as error:  # torch's exporters raise any kind for what they cannot trace
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"--export {file}: torch cannot export this network ({type(error).__name__}: {line})."
        ) from error
    answers = answers_of(predictor)
    checked = (
        ""
        if found is None
        else f"; it agrees with the run to {(found - expected).abs().max().item():.0e} in the "
        f"{answers[-1]}"
    )
    beside = _beside(file)
    more = beside.stat().st_size if beside.exists() else 0
    written = f"{file} and {beside.name}" if more else str(file)
    takes = f"{'vectors' if vectors else 'images'} float32 (batch, {', '.join(map(str, shape))})"
    return (
        f"{written} written, {(file.stat().st_size + more) / 1e6:,.1f} MB: "
        f"{takes}{'' if vectors else ' in [0, 1]'}{checked}"
    )


def description(trained: Trained) -> dict[str, Any]:
    """Facts that a program needs to know beside the network."""
    channels, size, _ = trained.outline.shape
    if not isinstance(trained.inputs, Pictures):
        return {
            "classes": trained.classes,
            "input": "float32 vectors, not standardised",
            "size": channels,
        }
    kind = {1: "grey", 3: "RGB"}.get(channels, "")
    return {
        "classes": trained.classes,
        "input": " ".join(["float32", *([kind] if kind else []), "in [0, 1]"]),
        "size": size,
        "fit": trained.inputs.fit,
    }


def answers_of(predictor: Predictor) -> list[str]:
    """Names of the outputs."""
    return ["logits", "probabilities"] if predictor.classes else ["numbers"]


def _beside(file: Path) -> Path:
    """Where the weights lie that an ONNX file cannot hold: a Protobuf message ends at 2 GB."""
    return file.with_name(f"{file.name}.data")


def _onnx(
    predictor: Predictor, images: Tensor, shapes: dict, about: dict[str, str], file: Path
) -> Tensor | None:
    """Write an ONNX file; the probabilities, or numbers, that it gives.

    None where onnxruntime is not there to run it.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (what torch's exporter writes with)
    except ImportError as error:
        raise UserError(
            f"--export {file} needs the package {error.name}: pip install 'tl-run[export]'. A "
            ".pt2 file needs none."
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        predictor,
        (images,),
        dynamo=True,
        dynamic_shapes=shapes,
        verbose=False,
        input_names=["images"],
        output_names=answers_of(predictor),
    )
    assert program is not None
    model = program.model_proto
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    beside = _beside(file)
    beside.unlink(missing_ok=True)  # of an export before; onnx writes behind what is there
    if sum(tensor.nbytes for tensor in predictor.state_dict().values()) > LARGEST:
        onnx.save(model, file, save_as_external_data=True, location=beside.name)
    else:
        onnx.save(model, file)
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    # it sets the thread's flag, which ours has set already
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(answers_of(predictor)[-1:], {"images": images.numpy()})[0])
