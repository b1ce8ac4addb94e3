"""What `edit` writes, read by PyPI's mcap and decoded by PyPI's protobuf."""

from harness import TOPICS, centralcap, read_sealed
from mcap.reader import make_reader


def test_the_output_opens_elsewhere_and_holds_the_same_frames(source, tmp_path):
    early, late, merged = (tmp_path / f"{name}.mcap" for name in ("early", "late", "merged"))
    centralcap("edit", source.path, "-o", early, "--to", "+10m")
    centralcap("edit", source.path, "-o", late, "--from", "+10m", "--level", 9)
    centralcap("edit", late, early, "-o", merged)

    found = read_sealed(merged, decode=True)
    assert 0 < len(read_sealed(early)) < len(found)
    assert [frame[:4] for frame in found] == [frame[:4] for frame in source.frames]
    with open(merged, "rb") as file:
        records = list(make_reader(file).iter_metadata())
    names = [record.name for record in records]
    assert names == ["centralcap", *["centralcap.input"] * 4, "centralcap.edit"]
    assert records[0].metadata["option.edit.inputs"] == "late.mcap, early.mcap"
    assert records[-1].metadata["frames"] == str(len(source.frames))


def test_parts_and_moved_times_hold_together_elsewhere(source, tmp_path):
    parts, moved = tmp_path / "parts", tmp_path / "moved.mcap"
    centralcap("edit", source.path, "-o", parts, "--split-by", "topic")
    names = sorted(path.name for path in parts.iterdir())
    assert names == [f"{topic}.mcap" for topic in TOPICS]
    found = [frame for name in names for frame in read_sealed(parts / name)]
    expected = sorted(source.frames, key=lambda frame: frame.topic)
    assert [frame[:4] for frame in found] == [frame[:4] for frame in expected]

    centralcap("edit", source.path, "-o", moved, "--restamp", "2031-03-04T05:06:07Z")
    stamps = [
        (new.decoded.timestamp - old.decoded.timestamp, new.decoded.subject == old.decoded.subject)
        for old, new in zip(source.frames, read_sealed(moved, decode=True))
    ]
    assert len(stamps) == len(source.frames) and len(set(stamps)) == 1
    assert stamps[0][0] > 5 * 365 * 86400 * 1_000_000_000 and stamps[0][1]
