"""What TensorRT complains about, as one exception that names node, operator, reason and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trt_anon.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

_ERROR = 1  # ILogger.Severity: INTERNAL_ERROR 0, ERROR 1

# "IBuilder::build: Error Code 4: API Usage Error (the reason. In function at /_src/file.cpp:12)"
_CODED = re.compile(r"^(?:\[[^\]]*\]|[\w:]+):? ?Error Code \d+: (?P<kind>[^(]*)\((?P<reason>.*)\)\s*$", re.DOTALL)
_PASS = re.compile(r"^\[[\w.]+:\d+: \w+\] ")
_PLACE = re.compile(r"\.? ?In [\w:~<>() ]+ at \S+:\d+( \(cudaError.*\))?$")
# Without a driver every error is followed by this one, and the parser logs each error that it also returns.
_ECHO = re.compile(r"catchCudaError|^ModelImporter\.cpp|^In (function )?\w+ at")

_WITHOUT = "export the network without it"
_REQUANTIZE = "start from its float32 original and quantize that: --precision int8"

# operator, what is said of it, and what to do; the first that fits
_HINTS = (
    ("DynamicQuantizeLinear|ConvInteger|MatMulInteger", "", f"the file is quantized dynamically; {_REQUANTIZE}"),
    ("QLinear.*", "", f"the file is in ONNX Runtime's own quantized format; {_REQUANTIZE}"),
    ("(Q|Deq)uantizeLinear", "zero ?point", "quantize symmetrically: all zero points are 0"),
    ("(Q|Deq)uantizeLinear", "", "--precision int8 places these as TensorRT wants them"),
    ("NonMaxSuppression|NonZero|Unique|RoiAlign", "", f"{_WITHOUT}; suppression is done by the pipeline"),
    ("", "has no runners that implement it", f"it has no kernel for this layer; {_WITHOUT}"),
    ("", "fp8", "fp8 is for sm_89 and later; build int8 for this GPU"),
    ("", "Turing", "full TensorRT builds for this GPU, on such a GPU"),
    ("", "Plugin not found|plugin creator", f"it would need a plugin, and none is ever loaded; {_WITHOUT}"),
    ("", "first input has type UInt8", "a uint8 input may only be read by a Cast"),
    ("", "must have same input types|type mismatch", "convert the network with --precision fp16"),
    (
        "",
        "driver version is insufficient|no CUDA-capable",
        "building for the GPU at hand needs one; or name a --target",
    ),
    ("", "magic|serialization version|header|Version tag", "it is damaged or of another version; build it again"),
    ("", "compute capability", "the engine is for other GPUs; build it for this one with --target"),
    ("", "(?i)out of ?memory|insufficient memory|workspace", "try a smaller batch or size, or another --workspace"),
    ("", "no integer solution|Reshaping", "the graph is made for one size or batch; give those that it takes"),
    ("", "optimization profile", "batch and size must lie within what the network takes"),
)


def parser_error(parser: trt.OnnxParser, title: str, model: str) -> EngineError:
    """The exception for a network that the parser refused."""
    nodes: list[tuple[str, str, str]] = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        reason = plain(str(error.desc()))
        reason = "it does not know this operator" if reason == "false" else reason
        nodes.append((str(error.node_operator()), str(error.node_name()), reason))
    if not nodes:
        return EngineError(f"{model}: {title} refuses the network and does not say why")
    operator, node, reason = nodes[0]
    operators = tuple(sorted({name for name, _, _ in nodes if name}))
    more = f"; so are {len(nodes) - 1} other nodes" if len(nodes) > 1 else ""
    if len(operators) > 1 or (more and operators != (operator,)):
        more += f" ({', '.join(operators)})"
    what = f"{operator or 'a node'} {node!r}" if node else (operator or "a node")
    return _error(f"{model}: {title} cannot take {what}", reason, operator or None, node or None, operators, more)


def build_error(
    heard: Sequence[tuple[int, str]], title: str, model: str, operators: Mapping[str, str], doing: str = "build it"
) -> EngineError:
    """The exception for what was said while building or loading failed; operators: of the network's nodes, by name."""
    complaints = [plain(text) for severity, text in heard if severity <= _ERROR and not _ECHO.search(text)]
    if not complaints:
        complaints = [plain(text) for severity, text in heard if severity <= _ERROR]
    reason = complaints[0] if complaints else "it does not say why"
    node = _named(reason, operators)
    operator = operators.get(node) if node else None
    what = f"{model}: {title} cannot {doing}" + (f": {operator} {node!r}" if node else "")
    return _error(what, reason, operator, node, (operator,) if operator else ())


def plain(text: str) -> str:
    """A message without TensorRT's own functions and files."""
    lines = []
    for line in text.strip().splitlines():
        found = _CODED.match(line.strip())
        said = _PASS.sub("", _PLACE.sub("", found["reason"].strip() if found else line.strip()))
        if said and not _ECHO.search(line):
            lines.append(said.rstrip(". "))
    # The parser's first line repeats what the second says in full.
    if len(lines) > 1 and lines[0].startswith("Invalid Node"):
        lines = lines[1:]
    return "; ".join(lines) or text.strip()


def hint_for(operator: str | None, reason: str) -> str | None:
    """What to do about an operator that is refused for a reason, None where nothing is known."""
    for wanted, said, hint in _HINTS:
        if (not wanted or re.fullmatch(wanted, operator or "")) and (not said or re.search(said, reason)):
            return hint
    return None


def _error(
    what: str, reason: str, operator: str | None, node: str | None, operators: tuple[str, ...], more: str = ""
) -> EngineError:
    hint = hint_for(operator, reason)
    message = f"{what}: {reason}{more}" + (f"; {hint}" if hint else "")
    return EngineError(message, node=node, operator=operator, operators=operators, reason=reason, hint=hint)


def _named(reason: str, operators: Mapping[str, str]) -> str | None:
    """The longest name of a node that stands in a message."""
    found = [name for name in operators if name and re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", reason)]
    return max(found, key=len, default=None)
