"""Batches depend on seed and epoch, not on workers."""

import multiprocessing
import signal
import subprocess
from dataclasses import replace
from multiprocessing.process import BaseProcess

import pytest
import torch

from datasets.batches import SeededBatches
from datasets.detection.dataset import DetectionDataset, collate, collate_targets
from datasets.detection.opening import open_data_set
from datasets.detection.transforms import DetectionTransform
from datasets.loader import BadFiles, LoaderOptions, SampleLoader
from tests.thread_ranks import together
from tests.tiny_data import make_tiny_flir
from utils.distributed import Ranks
from utils.errors import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    data = open_data_set(make_tiny_flir(tmp_path_factory.mktemp("tiny")))
    transform = DetectionTransform((64, 64), data.fill, train=True, scale_jitter=(0.7, 1.4), photometric=0.3)
    return DetectionDataset(data.records["train"], transform, data.channels)


def make_loader(dataset, collate, batch_size, seed, train, workers=0, pin_memory=False, *counted, **ranks):
    return SampleLoader(
        dataset, collate, LoaderOptions(batch_size, seed, workers, pin_memory), train, *counted, **ranks
    )


def read(loader, epoch: int) -> list[dict]:
    loader.set_epoch(epoch)
    return list(loader)


def same(first: list[dict], second: list[dict]) -> bool:
    def same_batch(a, b):
        tensors = [(a["images"][m], b["images"][m]) for m in ("rgb", "thermal")]
        tensors += [(a[name], b[name]) for name in ("boxes_xyxy", "labels")]
        return a["image_ids"] == b["image_ids"] and all(torch.equal(x, y) for x, y in tensors)

    return len(first) == len(second) and all(same_batch(a, b) for a, b in zip(first, second))


def test_batch(dataset):
    batches = read(make_loader(dataset, collate, 5, seed=0, train=True, workers=0), 0)
    assert len(batches) == 2, "the incomplete third is dropped"
    batch = batches[0]
    assert batch["images"]["rgb"].shape == (5, 3, 64, 64)
    assert batch["images"]["thermal"].shape == (5, 1, 64, 64)
    assert batch["images"]["rgb"].dtype == batch["images"]["thermal"].dtype == torch.uint8
    assert batch["image_size"] == (64, 64)
    assert (batch["scales"].shape, batch["scales"].dtype) == ((5,), torch.float32)
    assert batch["original_sizes"].tolist() == [[64, 80]] * 5
    assert len(set(batch["image_ids"])) == 5


def test_boxes_are_filled_up_to_the_image_with_most(dataset):
    samples = [dataset[i] for i in range(len(dataset))]
    numbers = [len(sample["labels"]) for sample in samples]
    assert min(numbers) == 0 < max(numbers), "the tiny set has images without boxes"
    bare = [{k: v for k, v in sample.items() if k not in ("rgb", "thermal")} for sample in samples]
    joined = collate_targets(bare)
    assert joined["boxes_xyxy"].shape == (len(samples), max(numbers), 4)
    assert joined["labels"].shape == (len(samples), max(numbers))
    assert (joined["boxes_xyxy"].dtype, joined["labels"].dtype) == (torch.float32, torch.int64)
    for i, (sample, number) in enumerate(zip(samples, numbers, strict=True)):
        assert torch.equal(joined["boxes_xyxy"][i, :number], sample["boxes_xyxy"])
        assert torch.equal(joined["labels"][i, :number], sample["labels"])
        assert not joined["boxes_xyxy"][i, number:].any()
        assert (joined["labels"][i, number:] == -1).all()
    none = collate_targets([bare[numbers.index(0)]])
    assert (none["boxes_xyxy"].tolist(), none["labels"].tolist()) == ([[[0.0] * 4]], [[-1]])


def test_workers_make_the_same_batches_and_epochs_differ(dataset):
    alone = make_loader(dataset, collate, 4, seed=1, train=True, workers=0)
    helped = make_loader(dataset, collate, 4, seed=1, train=True, workers=2)
    epochs = [read(alone, epoch) for epoch in (0, 1)]
    assert same(epochs[0], read(helped, 0))
    assert same(epochs[1], read(helped, 1)), "persistent workers missed the new epoch"
    assert not same(epochs[0], epochs[1])
    assert same(epochs[1], read(alone, 1))
    assert not same(epochs[0], read(make_loader(dataset, collate, 4, seed=2, train=True, workers=0), 0))


def test_reading_leaves_the_global_generator(dataset):
    loader = make_loader(dataset, collate, 4, seed=1, train=True, workers=0)
    state = torch.get_rng_state()
    read(loader, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_testing_keeps_order_and_every_pair(dataset):
    batches = read(make_loader(dataset, collate, 5, seed=0, train=False, workers=0), 3)
    ids = [image_id for batch in batches for image_id in batch["image_ids"]]
    assert ids == [record.image_id for record in dataset.records]


def test_training_set_smaller_than_a_batch_is_one_batch(dataset):
    batches = read(make_loader(dataset, collate, 50, seed=0, train=True, workers=0), 0)
    assert [len(batch["image_ids"]) for batch in batches] == [12]


def test_sampler():
    sampler = SeededBatches(1000, 1000, seed=3, train=True)
    (first,) = sampler
    assert sorted(index for index, _ in first) == list(range(1000))
    assert [index for index, _ in first] != list(range(1000))
    assert len({seed for _, seed in first}) == 1000
    assert first == next(iter(SeededBatches(1000, 1000, seed=3, train=True)))
    sampler.set_epoch(1)
    second = dict(next(iter(sampler)))
    assert all(second[index] != seed for index, seed in first)
    assert dict(next(iter(SeededBatches(1000, 1000, seed=3, train=False)))) == dict(first)


def damaged(dataset, *indices: int) -> DetectionDataset:
    """The same pairs, of which some name a file that is not there."""
    records = [
        replace(r, paths=r.paths | {"rgb": "gone.jpg"}) if i in indices else r for i, r in enumerate(dataset.records)
    ]
    return DetectionDataset(records, dataset.transform, dataset.channels)


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_that_cannot_be_read_are_missing_from_their_batch_alone(dataset, workers):
    bad = BadFiles(2)
    bad.log = lambda line: None
    whole = read(make_loader(dataset, collate, 4, 1, True, 0, False), 0)
    rest = read(make_loader(damaged(dataset, 2, 7), collate, 4, 1, True, workers, False, bad), 0)
    gone = {dataset.records[i].image_id for i in (2, 7)}
    assert sorted(bad.names) == sorted(dataset.records[i].file_name for i in (2, 7))
    for one, other in zip(whole, rest, strict=True):
        keep = [i for i, image_id in enumerate(one["image_ids"]) if image_id not in gone]
        assert other["image_ids"] == [one["image_ids"][i] for i in keep]
        assert torch.equal(other["images"]["rgb"], one["images"]["rgb"][keep])
        most = other["labels"].shape[1]
        assert (one["labels"][keep, most:] == -1).all()
        assert all(torch.equal(other[name], one[name][keep, :most]) for name in ("boxes_xyxy", "labels"))


def test_a_pair_counts_once_and_one_too_many_is_an_error(dataset):
    bad = BadFiles(1)
    said = []
    bad.log = said.append
    loader = make_loader(damaged(dataset, 2), collate, 4, 1, False, 0, False, bad)
    for _ in range(2):
        assert sum(len(batch["image_ids"]) for batch in loader) == len(dataset) - 1
    assert len(said) == len(bad.names) == 1
    with pytest.raises(UserError, match=r"gone\.jpg.*--max_bad_files 1 were left out before"):
        list(make_loader(damaged(dataset, 2, 3), collate, 4, 1, False, 0, False, bad))


@pytest.mark.parametrize(("limit", "advice"), [(None, ""), (0, r" \(--max_bad_files N leaves.*\)")])
def test_without_a_limit_the_first_one_is_an_error(dataset, limit, advice):
    loader = make_loader(damaged(dataset, 2), collate, 4, 1, False, 0, False, BadFiles(limit))
    with pytest.raises(UserError, match=rf"gone\.jpg.*cannot be decoded.*\){advice}$"):
        list(loader)


def test_a_batch_of_one_that_is_left_is_skipped_in_training(dataset):
    few = DetectionDataset(dataset.records[:2], dataset.transform, dataset.channels)
    bad = BadFiles(9)
    bad.log = lambda line: None
    assert len(list(make_loader(damaged(few, 0), collate, 2, 1, False, 0, False, bad))) == 1
    with pytest.raises(UserError, match=f"found none left in this pass: without {dataset.records[0].file_name}"):
        list(make_loader(damaged(few, 0), collate, 2, 1, True, 0, False, bad))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [(), (2, 7)])
def test_a_pass_goes_on_behind_any_batch(dataset, workers, bad):
    """The rest of the pass and the next one are those of an uninterrupted loader, whoever decodes them."""

    def make(workers):
        found = BadFiles(2)
        found.log = lambda line: None
        return make_loader(damaged(dataset, *bad) if bad else dataset, collate, 2, 1, True, workers, False, found)

    whole = make(0)
    whole.set_epoch(3)
    expected = list(whole)
    stops = range(1, len(expected) + 1)
    for stop in stops[:: len(expected) - 1] if workers else stops:  # processes take their time
        first, second = make(0), make(workers)
        first.set_epoch(3)
        batches = iter(first)
        for _ in range(stop):
            next(batches)
        second.load_state_dict(first.state_dict())
        assert same(list(second), expected[stop:])
        assert [b["image_ids"] for b in second] == [b["image_ids"] for b in expected], "a new pass is a whole one"
    assert whole.state_dict() == {"epoch": 3, "place": [0, 0]}


def test_workers_leave_signals_to_their_parent(dataset):
    """A terminal and a job scheduler send them to every process; the parent's own end still reaches them."""
    loader = make_loader(dataset, collate, 1, 1, True, 2, False)
    batches = iter(loader)
    next(batches)
    workers = [child.pid for child in multiprocessing.active_children()]
    assert len(workers) == 2
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        for pid in workers:
            subprocess.run(["kill", f"-{number}", str(pid)], check=True)  # not by their parent
    assert len(list(batches)) == len(dataset) - 1
    for child in multiprocessing.active_children():
        child.terminate()
        child.join(5)
        assert child.exitcode == 0


def test_signals_do_not_end_workers_that_are_starting(dataset):
    """The first batch is asked for only after both have started, and have been sent SIGTERM at once."""
    starting = BaseProcess.start

    def start(process):
        starting(process)
        subprocess.run(["kill", "-TERM", str(process.pid)], check=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseProcess, "start", start)
        assert len(list(make_loader(dataset, collate, 1, 1, True, 2, False))) == len(dataset)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def names_of(batches: list[dict]) -> list[list[str]]:
    return [batch["file_names"] for batch in batches]


def joined(shares: tuple[list, ...]) -> list:
    return [one for share in shares for one in share]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batch_size", [4, 5, 50])
def test_ranks_have_shares_of_the_batches_of_one_process(dataset, count, batch_size):
    how = batch_size, 1, True, 0, False
    whole = read(make_loader(dataset, collate, *how), 1)
    shares = together(count, lambda ranks: read(make_loader(dataset, collate, *how, ranks=ranks), 1))
    assert [joined(names) for names in zip(*map(names_of, shares))] == names_of(whole)
    for each in zip(*shares):
        sizes = [len(batch["file_names"]) for batch in each]
        assert max(sizes) - min(sizes) <= 1
        assert {batch["size"] for batch in each} == {sum(sizes)}
    own = [SeededBatches(12, batch_size, 1, True, ranks=Ranks(number, count)) for number in range(count)]
    keys = list(SeededBatches(12, batch_size, 1, True))
    assert [joined(each) for each in zip(*own)] == keys, "samples' seeds, too"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_ranks_take_turns_at_batches_that_they_do_not_learn_from(dataset, count):
    how = 5, 1, False, 0, False
    whole = read(make_loader(dataset, collate, *how), 0)
    loaders = [make_loader(dataset, collate, *how, ranks=Ranks(number, count)) for number in range(count)]
    turns = [batch for loader in loaders for batch in read(loader, 0)]
    assert same(sorted(turns, key=lambda batch: batch["number"]), whole)
    assert len({len(loader) for loader in loaders}) == 1, "all do as many rounds"


@pytest.mark.parametrize("given", [0, 1])
def test_ranks_agree_on_pairs_that_cannot_be_read(dataset, given):
    """As one process has it: the same left out and named by all, whoever met it; too many end all."""

    def work(ranks: Ranks):
        bad = BadFiles(2 - given)
        bad.log = [].append
        loader = make_loader(damaged(dataset, 2, 7), collate, 6, 1, True, 0, False, bad, ranks=ranks)
        if given:
            with pytest.raises(UserError, match="left out before"):
                read(loader, 0)
            return bad.names
        return bad.names, read(loader, 0), bad.names

    found = together(3, work)
    if given:
        assert len(set(map(tuple, found))) == 1
        return
    alone = BadFiles(2)
    alone.log = [].append
    whole = read(make_loader(damaged(dataset, 2, 7), collate, 6, 1, True, 0, False, alone), 0)
    assert all(sorted(names) == sorted(alone.names) for _, _, names in found)
    shares = [batches for _, batches, _ in found]
    assert [joined(names) for names in zip(*map(names_of, shares))] == names_of(whole)


def test_a_batch_of_which_a_rank_can_read_nothing_is_left_out(dataset):
    bad = [BadFiles(3) for _ in range(2)]
    few = replace_records(dataset, 4)

    def shared(ranks: Ranks):
        loader = make_loader(damaged(few, *lost), collate, 4, 1, True, 0, False, bad[ranks.number], False, ranks=ranks)
        return read(loader, 0)

    order = [index for index, _ in next(iter(SeededBatches(4, 4, 1, train=True)))]
    lost = order[:2]  # all of the first rank's share
    for one in bad:
        one.log = [].append
    assert together(2, shared) == [[], []]
    assert bad[0].names == bad[1].names
    assert len(bad[0].names) == 2


def replace_records(dataset: DetectionDataset, count: int) -> DetectionDataset:
    return DetectionDataset(dataset.records[:count], dataset.transform, dataset.channels)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_ranks_goes_on(dataset, count):
    how = 3, 1, True, 0, False
    whole = names_of(read(make_loader(dataset, collate, *how), 2))

    def begin(ranks: Ranks) -> dict:
        loader = make_loader(dataset, collate, *how, ranks=ranks)
        loader.set_epoch(2)
        each = iter(loader)
        next(each)
        next(each)
        return loader.state_dict()

    state, other = together(2, begin)
    assert state == other

    def go_on(ranks: Ranks) -> list:
        loader = make_loader(dataset, collate, *how, ranks=ranks)
        loader.load_state_dict(state)
        return names_of(list(loader))

    rest = together(count, go_on)
    assert [joined(names) for names in zip(*rest)] == whole[2:]


def test_a_batch_too_small_to_be_shared_is_refused(dataset):
    with pytest.raises(UserError, match="--batchsize 2: expected batches of at least 3 samples"):
        make_loader(dataset, collate, 2, 1, True, 0, False, ranks=Ranks(0, 3))
