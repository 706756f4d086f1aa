"""The zoo: diva's own models and torchvision's, by name."""

import pytest
import torch

from diva import resources
from diva.errors import UsageError
from diva.experiment.find import load_task
from diva.learning.sizes import measure
from diva.learning.task import Data
from diva.learning.zoo import build_zoo_model, logits_and_auxiliary, own_models, zoo_models, zoo_sizes


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("squeezenet1_1", 64), ("mobilenet_v3_small", 32), ("googlenet", 32)]
)
def test_a_model_of_torchvision_learns_from_images(name, size):
    torch.manual_seed(0)
    model = build_zoo_model(name, 5)
    model.train()
    logits = model(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 5)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_gives_the_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(build_zoo_model("mobilenet_v3_small", 2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_names_are_those_of_classification_models():
    names = zoo_models()
    assert {"small_cnn", "resnet18", "vit_b_16", "convnext_tiny", "inception_v3"} <= set(names)
    assert not any(word in name for name in names for word in ("segmentation", "rcnn", "raft", "r3d", "deeplab"))


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"'resnet81'; did you mean resnet18\?"):
        build_zoo_model("resnet81", 2)


@pytest.mark.parametrize("name", ["small_cnn", "babyresnet18"])
def test_own_models_take_any_channels_and_size(name):
    for channels, size in ((1, (8, 8)), (2, (9, 5)), (3, (12, 12))):
        assert build_zoo_model(name, 4, channels, size)(torch.rand(2, channels, *size)).shape == (2, 4)


def test_models_of_torchvision_refuse_other_channels():
    with pytest.raises(UsageError, match="3 channels, not 1"):
        build_zoo_model("resnet18", 2, 1)


# parameters at 10 classes: those of torchvision's network, less those of its stem, 64 x 3 x (7 x 7 - 3 x 3)
PARAMETERS = {18: 11_173_962, 34: 21_282_122, 50: 23_520_842, 101: 42_512_970, 152: 58_156_618}


@pytest.mark.parametrize("depth", PARAMETERS)
def test_babyresnets_keep_the_resolution_of_small_images(depth):
    with torch.device("meta"):
        model, images = build_zoo_model(f"babyresnet{depth}", 10), torch.empty(1, 3, 32, 32)
    sizes = measure(model, lambda: model(images))
    assert sizes.parameters == PARAMETERS[depth]
    outputs = {layer.name: layer.output for layer in sizes.layers}
    assert outputs["layer1"] is not None and outputs["layer1"][2:] == (32, 32)
    assert outputs["layer4"] is not None and outputs["layer4"][2:] == (4, 4)
    if depth == 18:
        # the stem; 4 convolutions of 64 channels at 32 x 32 and as many MACs per later pair, halved where a stage begins; the head
        stage = 64 * 64 * 9 * 32 * 32
        assert sizes.macs == 64 * 27 * 32 * 32 + 4 * stage + 3 * (3.5 * stage + 64 * 128 * 16 * 16) + 512 * 10


def test_babyresnets_are_listed():
    assert set(own_models()) == {"small_cnn", *(f"babyresnet{depth}" for depth in PARAMETERS)}


@pytest.mark.parametrize(("name", "size", "weights"), [("googlenet", 32, [0.3, 0.3]), ("inception_v3", 299, [0.4])])
def test_auxiliary_outputs_take_part_in_training_alone(name, size, weights):
    with torch.device("meta"):
        images = torch.empty(2, 3, size, size)
    model = build_zoo_model(name, 5, size=(size, size), auxiliary=True).to("meta")
    logits, others = logits_and_auxiliary(model.train()(images))
    assert logits.shape == (2, 5)
    assert [(share, other.shape) for share, other in others] == [(share, (2, 5)) for share in weights]
    logits, others = logits_and_auxiliary(model.eval()(images))
    assert logits.shape == (2, 5) and others == []


def test_a_model_without_auxiliary_outputs_has_none():
    model = build_zoo_model("small_cnn", 5)
    logits, others = logits_and_auxiliary(model(images := torch.rand(2, 3, 8, 8)))
    assert logits.shape == (2, 5) and others == [] and len(images) == 2


def test_images_too_small_for_auxiliary_outputs_are_refused_before_training():
    with pytest.raises(UsageError, match="at least 299 x 299 pixels, not 75 x 299; choose --image-size 299"):
        build_zoo_model("inception_v3", 2, size=(75, 299), auxiliary=True)


def test_a_model_without_its_auxiliary_outputs_keeps_its_weights():
    """What runs of earlier versions began with."""
    torch.manual_seed(3)
    plain = build_zoo_model("googlenet", 2)
    assert not any(name.startswith("aux") for name, _ in plain.named_parameters())
    assert isinstance(plain.train()(torch.rand(2, 3, 32, 32)), torch.Tensor)


def test_the_task_adds_the_losses_of_auxiliary_outputs_in_training_alone():
    """0.3 times each of GoogLeNet's."""
    task = load_task(resources("templates") / "image_classification").model_validate(
        {"model": "googlenet", "auxiliary": True}
    )
    facts = {"classes": ["a", "b"], "channels": 3, "input_size": [32, 32]}
    part = torch.utils.data.TensorDataset(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))
    data = Data(part, part, part, facts)
    torch.manual_seed(0)
    model = task.build_model(data).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        outputs = model(part.tensors[0])
        losses = [torch.nn.functional.cross_entropy(logits, part.tensors[1]) for logits in outputs]
        loss = task.training_step(model, part.tensors, data).loss
        assert torch.allclose(loss, losses[0] + 0.3 * losses[1] + 0.3 * losses[2])
        model.eval()
        plain = torch.nn.functional.cross_entropy(model(part.tensors[0]), part.tensors[1])
        assert torch.equal(task.training_step(model, part.tensors, data).loss, plain)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18"])
def test_auxiliary_outputs_that_a_model_has_not_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} has no auxiliary outputs; models that have some: googlenet"):
        build_zoo_model(name, 2, auxiliary=True)


def test_sizes_are_those_of_the_usual_input_without_auxiliary_outputs():
    assert zoo_sizes("small_cnn") == {"parameters": 94_762, "GMACs": 0.0103, "input": "3 x 32 x 32", "classes": 10}
    stated = {"parameters": 11_689_512, "GMACs": 1.814, "input": "3 x 224 x 224", "classes": 1000}
    assert zoo_sizes("resnet18") == stated
    assert zoo_sizes("googlenet")["parameters"] == 6_624_904  # with them torchvision counts 13,004,888
    assert zoo_sizes("swin_v2_t")["input"] == "3 x 256 x 256"
