"""Encoders: strides, names, channel order, errors, and ImageNet weights with and without a network."""

import time

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from models.detection import backbones
from models.detection.backbones import create_encoder, encode, encoder_channels, is_reachable
from utils.errors import UserError


@pytest.mark.parametrize("name", ["lcnet_050", "resnet10t", "convnext_atto"])
def test_maps_at_strides_8_16_32(name):
    encoder = create_encoder(name).eval()
    with torch.no_grad():
        maps = encode(encoder, torch.randn(1, 3, 64, 96))
    sizes = [(8, 12), (4, 6), (2, 3)]
    assert [tuple(x.shape) for x in maps] == [(1, c, *s) for c, s in zip(encoder_channels(encoder), sizes, strict=True)]


def drop_path_rates(encoder):
    return [module.drop_prob for module in encoder.modules() if isinstance(module, timm.layers.DropPath)]


def test_swin():
    """NHWC inside, any multiple of its patch instead of its pretraining size only, and no drop path unless asked."""
    encoder = create_encoder("swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        maps = encode(encoder, torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]
    assert not any(drop_path_rates(encoder))  # timm's own default here is 0.1


def test_names_are_those_of_timm():
    ours = create_encoder("lcnet_050").state_dict()
    theirs = timm.create_model("lcnet_050", features_only=True, pretrained=False).state_dict()
    assert list(ours) == list(theirs)


def test_drop_path_reaches_the_encoder():
    assert max(drop_path_rates(create_encoder("efficientnet_lite0", drop_path=0.2))) > 0.1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efficientnet_v2_rw_t", "efficientnetv2_rw_t"),
        ("vit_tiny_patch16_224", "[16, 16"),
        ("lcnet_050.no_such_tag", "no_such_tag"),
    ],
)
def test_unusable_names(name, words):
    with pytest.raises(UserError, match="--backbone") as error:
        create_encoder(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_drop_path_where_there_is_none():
    with pytest.raises(UserError, match="drop path"):
        create_encoder("dla46_c", drop_path=0.2)
    create_encoder("dla46_c")


@pytest.fixture
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["lcnet_050", "gcvit_xxtiny"], ids=["hub", "url"])
def test_imagenet_weights_offline(monkeypatch, empty_caches, name):
    """A server that does not answer in time ends with the way out, well before timm would give up."""

    def never_answers(*args, timeout):
        assert timeout == backbones.PROBE_SECONDS
        raise TimeoutError

    monkeypatch.setattr(backbones.urllib.request, "urlopen", never_answers)
    start = time.monotonic()
    with pytest.raises(UserError, match="--no-imagenet"):
        create_encoder(name, imagenet=True)
    assert time.monotonic() - start < 4


def test_imagenet_weights_that_do_not_exist():
    assert not timm.get_pretrained_cfg("lcnet_035").hf_hub_id
    with pytest.raises(UserError, match=r"has no weights.*--no-imagenet"):
        create_encoder("lcnet_035", imagenet=True)


def test_imagenet_weights_from_the_cache(monkeypatch, empty_caches):
    """Weights on disk are used without asking the network; drop path and strides stay as asked."""
    monkeypatch.setattr(backbones, "is_reachable", lambda url: pytest.fail(f"asked for {url}"))
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *args, **options: pytest.fail("asked the hub"))
    folder = empty_caches / "models--timm--lcnet_050.ra2_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    weights = timm.create_model("lcnet_050", pretrained=False).state_dict()
    save_file(weights, folder / "snapshots" / "abc" / "model.safetensors")
    encoder = create_encoder("lcnet_050", imagenet=True)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    stacked = create_encoder("lcnet_050", imagenet=True, in_channels=4).state_dict()
    first = weights.pop("conv_stem.weight")
    # timm repeats the colours and scales, so that the sum over four channels is about that over three
    torch.testing.assert_close(stacked.pop("conv_stem.weight"), first[:, [0, 1, 2, 0]] * 3 / 4)
    assert all(torch.equal(value, weights[name]) for name, value in stacked.items())


def test_a_failed_download_names_the_way_out(monkeypatch, empty_caches):
    """The server answers the probe and then the download fails."""
    monkeypatch.setattr(backbones, "is_reachable", lambda url: True)

    create_model = timm.create_model

    def fail(name, **options):
        if options.get("pretrained"):
            raise OSError("connection lost\nsecond line")
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"connection lost; --no-imagenet"):
        create_encoder("lcnet_050", imagenet=True)


@pytest.mark.parametrize(
    ("failure", "reachable"),
    [
        (None, True),
        (backbones.urllib.error.HTTPError("https://x", 403, "no", None, None), True),
        (backbones.urllib.error.URLError(OSError("no route")), False),
        (backbones.urllib.error.URLError(backbones.ssl.SSLError("unknown authority")), True),
        (ConnectionResetError(), False),
        (backbones.http.client.BadStatusLine("?"), False),
    ],
)
def test_what_counts_as_reachable(monkeypatch, failure, reachable):
    class Response:
        def close(self):
            pass

    def urlopen(*args, **options):
        if failure:
            raise failure
        return Response()

    monkeypatch.setattr(backbones.urllib.request, "urlopen", urlopen)
    assert is_reachable("https://x") is reachable
