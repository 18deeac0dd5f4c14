import pytest
import torch
from torch import nn

from napari_rada.control import RunControl
from napari_rada.errors import Stopped
from napari_rada.models.stopping import looked_for

CPU = torch.device("cpu")


class StopAtLook(RunControl):
    """Asks for a stop when a computation looks for one the n-th time; counts the looks."""

    def __init__(self, look: int = 0) -> None:
        super().__init__()
        self.look, self.looks = look, 0

    def check(self) -> None:
        self.looks += 1
        if self.looks == self.look:
            self.stop()
        super().check()


@pytest.fixture
def net():
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(inplace=True), nn.ConvTranspose3d(2, 1, 2, stride=2))


IMAGE = torch.zeros(1, 1, 8, 8, 8)


def test_each_convolution_looks_once_on_either_way(net):
    control = StopAtLook()
    with looked_for(net, control, CPU):
        result = net(IMAGE)
        assert control.looks == 2
        result.sum().backward()
    assert control.looks == 4


@pytest.mark.parametrize("look", [1, 2, 3, 4])
def test_a_stop_leaves_the_pass_where_it_is(net, look):
    control = StopAtLook(look)
    with pytest.raises(Stopped), looked_for(net, control, CPU):
        net(IMAGE).sum().backward()
    assert control.looks == look


def test_a_pass_without_gradient_is_left_as_well(net):
    control = StopAtLook(2)
    with pytest.raises(Stopped), torch.inference_mode(), looked_for(net, control, CPU):
        net(IMAGE)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_nothing_is_looked_for_on_other_devices(net, device):
    control = StopAtLook(1)
    with looked_for(net, control, torch.device(device)):
        net(IMAGE)
    assert control.looks == 0


def test_nothing_is_looked_for_afterwards(net):
    control = StopAtLook()
    with looked_for(net, control, CPU):
        net(IMAGE)
    net(IMAGE).sum().backward()
    assert control.looks == 2
