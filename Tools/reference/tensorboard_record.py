"""Prints the bytes of two records as TensorBoard's own writer makes them, in hexadecimal: what TensorBoardTests compare with.

tensorboard_record.py     needs tensorboard (made with 2.x)"""
import io
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

for event in (
    event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"),
    event_pb2.Event(wall_time=2.25, step=300, summary=summary_pb2.Summary(value=[
        summary_pb2.Summary.Value(tag="loss/train", simple_value=0.625), summary_pb2.Summary.Value(tag="top1/validation", simple_value=-3)])),
):
    class Sink(io.BytesIO):
        def close(self): pass
    sink = Sink()
    RecordWriter(sink).write(event.SerializeToString())
    print(sink.getvalue().hex())
