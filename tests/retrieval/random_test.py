import collections
import os
import subprocess
import sys

from hydrajax.retrieval import random
from hydrajax.types import Record

RECORDS = [Record(id=f"r{i}", fields={"text": f"t{i}"}) for i in range(6)]


def _ids(records, query_id="q", seed=0):
    order = random.rank("", records, [""] * len(records), query_id=query_id, seed=seed)
    return [records[i].id for i in order]


def test_depends_on_seed_and_query_alone():
    first = _ids(RECORDS)
    assert sorted(first) == [record.id for record in RECORDS]
    _ids(RECORDS, query_id="another")
    assert _ids(RECORDS) == first
    assert len({tuple(_ids(RECORDS, query_id=f"q{i}")) for i in range(20)}) > 15
    assert len({tuple(_ids(RECORDS, seed=i)) for i in range(20)}) > 15


def test_seed_and_query_id_are_kept_apart():
    assert _ids(RECORDS, query_id="1q", seed=1) != _ids(RECORDS, query_id="q", seed=11)


def test_leaving_a_record_out_keeps_the_order_of_the_others():
    everything = _ids(RECORDS)
    without = _ids([record for record in RECORDS if record.id != "r2"])
    assert without == [i for i in everything if i != "r2"]


def test_every_record_is_first_about_equally_often():
    firsts = collections.Counter(_ids(RECORDS, query_id=str(i))[0] for i in range(3000))
    # 500 each; the standard deviation is 20.4.
    assert all(400 < firsts[record.id] < 600 for record in RECORDS)


def test_the_same_in_every_process():
    code = (
        "from hydrajax.retrieval import random; from hydrajax.types import Record;"
        "r = [Record(id=f'r{i}', fields={}) for i in range(6)];"
        "print(random.rank('', r, [''] * 6, query_id='q', seed=0))"
    )
    here = random.rank("", RECORDS, [""] * 6, query_id="q", seed=0)
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert output.stdout.decode().strip() == str(here)
