"""`from_package.py`: what it writes is the network that the package was made from. Run as test_training.py."""
import contextlib
import io
import os
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import checkpoint
import export
import from_package
from mlic_reference import package
from mlicpp import EDGE as SHAPE, MLICPlusPlus

ROOT = HERE.parents[1]
TINY, EDGE = ROOT / "conformance/models/tiny.mlicpkg", ROOT / "models/edge/edge.mlicpkg"
GOLDEN = ROOT / "crates/mlic-builder/tests/golden/tiny"       # tiny.mlicpkg was built from this export
BYTES = 0.07        # relative root mean square: tiny.mlicpkg has int8 weights, and symbols that round the other way for it
WORDS = 0.02


def difference(got, expected):
    """Root mean square of the difference, relative to what is expected."""
    return ((got - expected).square().mean() / expected.square().mean()).sqrt().item()


class Tiny(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.state, cls.left = from_package.state_of(TINY.read_bytes(), fit_steps=300)
        _, cls.net = export.build(checkpoint.parameters(cls.state))
        cls.path, cls.transforms = (load_file(GOLDEN / f"{name}.safetensors") for name in ("path", "transforms"))

    def assert_close(self, name, got, expected, most):
        self.assertLess(difference(got, expected), most, name)

    @torch.no_grad()
    def test_entropy_networks_follow_the_originals(self):
        # Hyper parameters have a unit of their own, so only what is computed from them can be compared.
        trace = {}
        self.net.condition(self.path["y"], self.net.h_s(self.path["z_hat"]), trace.__setitem__)
        for i in range(self.net.cfg.slices):
            for what in ("anchor_params", "nonanchor_params", "y_hat"):
                got, expected = (t[f"slice{i}.{what}"] for t in (trace, self.path))
                self.assert_close(f"slice {i}, {what}", got, expected, BYTES)

    @torch.no_grad()
    def test_float_transforms_are_the_originals(self):
        t = self.transforms
        for name, x, expected in (("g_a", "x", "y"), ("h_a", "y", "z"), ("g_s", "y", "x_hat")):
            self.assert_close(name, getattr(self.net, name)(t[x]), t[expected], 1e-5)

    @torch.no_grad()
    def test_the_integer_synthesis_is_the_original(self):
        model, (_, sections) = package.load(TINY.read_bytes()), package.container(TINY.read_bytes())
        state = from_package.transforms(model, {**sections, package.SYNTHESIS: b""})
        net = type(self.net)(self.net.cfg)
        net.load_state_dict({**self.state, **state}, strict=False)
        self.assert_close("g_s", net.g_s(self.transforms["y"]), self.transforms["x_hat"], WORDS)
        for i in (1, 3, 5):
            _, beta = net.g_s.synthesis_transform[i].igdn.constants()
            self.assertAlmostEqual(beta.median().item(), 1, delta=0.2)

    def test_gains_medians_and_position_tables_are_the_originals(self):
        for name, expected in load_file(GOLDEN / "entropy.safetensors").items():
            if name in from_package.GAINS or name.endswith(("relative_position_table", "quantiles")):
                got = self.state[name]
                if name.endswith("quantiles"):
                    got, expected = got[:, 0, 1], expected[:, 0, 1]
                torch.testing.assert_close(got, expected.float(), rtol=0, atol=1e-3, msg=name)
        self.assertLess(self.left, 0.2)

    def test_weights_have_about_the_size_that_they_had(self):
        for name, expected in load_file(GOLDEN / "entropy.safetensors").items():
            if name.endswith("weight") and expected.dim() == 4:
                ratio = self.state[name].square().mean().sqrt().item() / expected.float().square().mean().sqrt().item()
                self.assertTrue(0.5 < ratio < 2, f"{name}: {ratio} times")


    def test_levels_of_other_weights_are_refused(self):
        model = package.load(TINY.read_bytes())
        self.assertEqual(set(from_package.entropy(model)), set(from_package.Entropy(model, 1).state))
        model.layers["slice0.lrp_anchor.0"].levels[0].multipliers[0][3] *= 2
        with self.assertRaisesRegex(from_package.Refusal, "is not the same at every level"):
            from_package.entropy(model)


class Edge(unittest.TestCase):
    @torch.no_grad()
    def test_integer_transforms_invert_each_other(self):
        model, (_, sections) = package.load(EDGE.read_bytes()), package.container(EDGE.read_bytes())
        net = MLICPlusPlus(SHAPE)
        net.load_state_dict({**from_package.transforms(model, sections), **from_package.gains(model)}, strict=False)
        gain, inverse, _, _ = net.gains(torch.tensor([7.0]))
        x = torch.from_numpy(np.array(Image.open(EDGE.parent / "crops.jpg"))[:128, :128]).permute(2, 0, 1)[None].float() / 255
        psnr = -10 * (net.g_s(net.g_a(x) * gain * inverse) - x).square().mean().log10()
        self.assertGreater(psnr.item(), 40)


class Command(unittest.TestCase):
    def run_on(self, data, *options):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as said:
            path = os.path.join(folder, "x.mlicpkg")
            pathlib.Path(path).write_bytes(data)
            code = from_package.main([path, os.path.join(folder, "x.pt"), *options])
            saved = checkpoint.read(os.path.join(folder, "x.pt")) if code == 0 else None
        return code, said.getvalue(), saved

    def test_lambdas_are_saved_and_must_fit_the_levels(self):
        with unittest.mock.patch.object(from_package, "FIT_STEPS", 1):
            code, _, saved = self.run_on(TINY.read_bytes(), "--lambdas", "1,2,3,4")
            self.assertEqual((code, saved["lambdas"]), (0, [1, 2, 3, 4]))
            code, said, _ = self.run_on(TINY.read_bytes(), "--lambdas", "1,2,3")
            self.assertEqual(code, 1)
            self.assertIn("3 lambdas for 4 levels", said)

    def test_what_cannot_be_inverted_is_said_in_a_sentence(self):
        cases = ((b"hello", "size of the file"), ((ROOT / "conformance/models/edge-cases.mlicpkg").read_bytes(), "2 channels per head"))
        for data, expected in cases:
            code, said, _ = self.run_on(data)
            self.assertEqual(code, 1)
            self.assertIn(expected, said)
            self.assertEqual(len(said.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
