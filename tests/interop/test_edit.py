"""What `edit` writes, read by PyPI's mcap and decoded by PyPI's protobuf."""

from harness import centralcap, read_sealed
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
