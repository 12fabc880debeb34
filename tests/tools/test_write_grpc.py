"""The committed Python of the gRPC messages is what their definition gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tritonclient.grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto

from carpool.serve.grpc import messages
from tools.write_grpc import DIRECTORY, written

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FileDescriptor


def test_the_committed_messages_are_what_the_definition_gives() -> None:
    """Whoever changes inference.proto runs tools/write_grpc.py."""
    for name, content in written().items():
        assert (DIRECTORY / name).read_text(encoding="utf-8") == content, f"run python tools/write_grpc.py: {name}"


def of_triton() -> FileDescriptor:
    """Find the definition that NVIDIA's client carries."""
    pool: FileDescriptor = tritonclient.grpc.service_pb2.DESCRIPTOR
    return pool


def test_each_field_is_the_one_that_triton_s_client_knows() -> None:
    """Number, type, label and name of every field agree with those of an independent definition of the protocol."""
    of_ours = messages.DESCRIPTOR
    theirs = descriptor_pool.Default()
    for name, message in of_ours.message_types_by_name.items():
        check_message(described(message), described(theirs.FindMessageTypeByName(f"inference.{name}")))
    for name, enum in of_ours.enum_types_by_name.items():
        known = theirs.FindEnumTypeByName(f"inference.{name}").values_by_name
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in known.values()}


def check_message(ours: DescriptorProto, theirs: DescriptorProto) -> None:
    """Compare one message, and those within it."""
    known = {field.name: field for field in theirs.field}
    for field in ours.field:
        other = known[field.name]
        assert (field.number, field.type, field.label) == (other.number, other.type, other.label), field.name
        assert (field.type_name, field.HasField("oneof_index")) == (other.type_name, other.HasField("oneof_index"))
    inner = {message.name: message for message in theirs.nested_type}
    for message in ours.nested_type:
        check_message(message, inner[message.name])


def described(message: Descriptor) -> DescriptorProto:
    """Write a message's definition as a message."""
    definition = DescriptorProto()
    message.CopyToProto(definition)
    return definition


def test_every_call_of_triton_s_client_is_defined() -> None:
    """Names, and what they take and give."""
    ours = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    theirs = of_triton().services_by_name["GRPCInferenceService"]
    for method in theirs.methods:
        mine = ours.methods_by_name[method.name]
        assert mine.input_type.full_name == method.input_type.full_name
        assert mine.output_type.full_name == method.output_type.full_name
