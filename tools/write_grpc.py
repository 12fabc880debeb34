"""Writes the Python of the gRPC messages from src/carpool/serve/grpc/inference.proto, beside it.

Run it after a change to that file; a test compares what is committed with what this would write::

    python tools/write_grpc.py

protoc's own Python puts its messages into the pool of descriptors that a whole process shares, where those of a client
of the same protocol (such as tritonclient's, used by a model that asks another server) bear the same names. What is
written here has a pool of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

DIRECTORY = Path(__file__).resolve().parent.parent / "src" / "carpool" / "serve" / "grpc"
PROTO = DIRECTORY / "inference.proto"
_WIDTH = 96  # bytes of the descriptor in a line, before some are escaped
_HEAD = '''"""The messages of the protocol. Written from inference.proto by tools/write_grpc.py."""

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

# A pool of their own: a client of the same protocol in this process has messages of the same names.
_POOL = DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
'''


def written() -> dict[str, str]:
    """Return the files by their names."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{DIRECTORY}", f"--pyi_out={made}"]
        subprocess.run([*command, f"--descriptor_set_out={made / 'set'}", PROTO.name], check=True)
        described = FileDescriptorSet.FromString((made / "set").read_bytes()).file[0]
        stub = (made / f"{PROTO.stem}_pb2.pyi").read_text(encoding="utf-8")
    return {"messages.py": _module(described), "messages.pyi": stub}


def _module(described: FileDescriptorProto) -> str:
    """Write the module, whose types the stub tells."""
    raw = described.SerializeToString(deterministic=True)
    lines = [f"    {raw[start : start + _WIDTH]!r}\n" for start in range(0, len(raw), _WIDTH)]
    lines.append(")\n_MESSAGES = DESCRIPTOR.message_types_by_name\n_ENUMS = DESCRIPTOR.enum_types_by_name\n\n")
    for enum in described.enum_type:
        lines.append(f'{enum.name} = EnumTypeWrapper(_ENUMS["{enum.name}"])\n')
        lines += [f'{value.name} = {enum.name}.Value("{value.name}")\n' for value in enum.value]
    lines.append("\n")
    lines += [f'{message.name} = GetMessageClass(_MESSAGES["{message.name}"])\n' for message in described.message_type]
    return _HEAD + "".join(lines)


def main() -> None:
    """Write them."""
    for name, content in written().items():
        (DIRECTORY / name).write_text(content, encoding="utf-8")
        print(f"wrote {DIRECTORY / name}")


if __name__ == "__main__":
    main()
