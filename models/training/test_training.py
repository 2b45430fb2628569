"""python -m unittest discover models/training: seconds on a processor, no tiles needed."""
import argparse
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import sys
import tarfile
import tempfile
import unittest
import unittest.mock

import numpy as np
import safetensors.torch
import torch
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..")]
import checkpoint
import export
import fast
import hyper
import klt
import levels
import mlicpp
import pack_tiles
import rd
import report
import step
import tiles
import train


class Fast(unittest.TestCase):
    def test_half_weights_are_those_of_autocast(self):
        block = lambda: mlicpp.ResidualBlockUpsample(8, 16).to(memory_format=torch.channels_last)
        plain, halved = block(), block()
        halved.load_state_dict(plain.state_dict())
        half = fast.HalfWeights(halved)
        x = torch.randn(2, 8, 8, 8)
        for turn in range(2):
            for net in (plain, halved):
                for p in net.parameters():
                    if net is plain or not any(p is w for w in half.whole):
                        p.grad = None
                half.refresh()
                with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                    y = net(x)
                y.float().square().sum().backward()
            half.gradients()
            for a, b in zip(plain.parameters(), halved.parameters()):
                torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)
            with torch.no_grad():
                for p in (*plain.parameters(), *halved.parameters()):
                    p.mul_(1.5)

    def test_half_weights_round_as_the_package_does(self):
        plain, halved = (fast.use(mlicpp.MLICPlusPlus(mlicpp.EDGE), in_bytes=True).g_s for _ in range(2))
        halved.load_state_dict(plain.state_dict())
        half = fast.HalfWeights(halved)
        block, other = plain.synthesis_transform[6], halved.synthesis_transform[6]
        half.refresh()
        x = torch.randn(1, 64, 8, 8)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            a, b = block(x), other(x)
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        for y in (a, b):
            y.float().square().sum().backward()
        grads = {id(w): h.grad for w, h in zip(half.whole, half.half)}
        torch.testing.assert_close(grads[id(other.conv1.weight)].float(), block.conv1.weight.grad, rtol=0.02, atol=0.1)
        steps = block.conv1.weight / (block.conv1.weight.abs().flatten(1).amax(1) / 127).view(-1, 1, 1, 1)
        self.assertGreater((steps - steps.round()).abs().max().item(), 0.4)      # the weights themselves are not rounded

    def test_a_step_that_is_not_finite_changes_nothing(self):
        a = train.arguments(["--tiles", "synthetic:8", "--out", "", "--batch", "2", "--size", "64", "--warmup", "1"])
        net = fast.use(mlicpp.MLICPlusPlus(mlicpp.EDGE))
        factor = float("nan")
        one = train.Step(net, lambda net, x, q: (net.gain.sum() * factor + 0 * q, 0 * q, 0 * q + 1e-3), "joint", a, 2, 64)
        one.set_rate(1.0)
        before = net.gain.detach().clone()
        one(torch.rand(2, 3, 64, 64))
        torch.testing.assert_close(net.gain.detach(), before, rtol=0, atol=0)
        factor = 1.0
        one(torch.rand(2, 3, 64, 64))
        self.assertTrue((net.gain < before).all())

    def test_precision_is_that_asked_for_or_what_the_processor_has(self):
        self.assertTrue(step.in_bf16("bf16", "cpu"))
        self.assertFalse(step.in_bf16("fp32", "cpu"))
        for flags, expected in (("flags : avx2 amx_bf16 fma", True), ("flags : avx512_bf16", True), ("flags : avx2 fma", False)):
            with unittest.mock.patch.object(pathlib.Path, "read_text", return_value=flags):
                self.assertEqual(step.in_bf16("auto", "cpu"), expected)
        with unittest.mock.patch.object(pathlib.Path, "read_text", side_effect=FileNotFoundError):
            self.assertFalse(step.in_bf16("auto", "cpu"))

    def test_both_precisions_measure_the_same(self):
        data, _ = tiles.synthetic(2)
        x, losses = tiles.crops(data, torch.arange(2), 2, 64), []
        for precision in ("fp32", "bf16"):
            torch.manual_seed(0)
            a = train.arguments(["--tiles", "", "--out", "", "--precision", precision])
            one = train.Step(fast.use(mlicpp.MLICPlusPlus(mlicpp.EDGE)), rd.joint, "joint", a, 2, 64)
            one.set_rate(1e-3)
            one(x)
            losses.append(one.seen()["loss"])
        self.assertLess(abs(losses[1] / losses[0] - 1), 0.05)
        self.assertTrue(torch.backends.mkldnn.enabled)

    def test_local_context_is_the_definition(self):
        torch.manual_seed(0)
        m = mlicpp.LocalContext()
        torch.nn.init.normal_(m.relative_position_table)
        x = torch.randn(2, 32, 6, 8, requires_grad=True)
        want, got = m(x), fast.local_context(m, x)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        weight = torch.randn_like(want)
        inputs = [x, *m.parameters()]
        for a, b in zip(torch.autograd.grad((want * weight).sum(), inputs), torch.autograd.grad((got * weight).sum(), inputs)):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)

    def test_lower_bound_is_the_definition(self):
        for f in (mlicpp._LowerBound.apply, fast.lower_bound):
            x = torch.tensor([-1.0, 0.5, -1.0], requires_grad=True)
            y = f(x, torch.tensor(0.0) if f is not fast.lower_bound else 0.0)
            (y * torch.tensor([1.0, 1.0, -1.0])).sum().backward()
            self.assertEqual(y.tolist(), [0.0, 0.5, 0.0])
            self.assertEqual(x.grad.tolist(), [0.0, 1.0, -1.0])


class Start(unittest.TestCase):
    def test_transforms_invert_each_other(self):
        torch.manual_seed(0)
        data, _ = tiles.synthetic(16)
        net = mlicpp.MLICPlusPlus(mlicpp.EDGE)
        klt.start(net, data.numpy(), 0)
        x = data[:4].permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            error = (net.g_s(net.g_a(x)) - x).square().mean()
        self.assertLess(error.item(), 0.1 * (x - x.mean()).square().mean().item())

    def test_hyperprior_carries_the_coarse_picture(self):
        torch.manual_seed(0)
        data, numbers = tiles.synthetic(16)
        net = mlicpp.MLICPlusPlus(mlicpp.EDGE)
        klt.start(net, data.numpy(), 0)
        bits = hyper.start(net, data, tiles.split(numbers)[0], batches=1)
        self.assertLess(bits.sum().item(), 8 * sum(hyper.KEPT))
        x = data[:8].permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            g, _, hg, ihg = net.gains(torch.full((8,), float(net.cfg.levels // 2)))
            y = net.g_a(x) * g
            told = net.h_s((net.h_a(y) * hg).round() * ihg)[:, net.cfg.latent:net.cfg.latent + hyper.CHANNELS]
        for c, most in enumerate((0.2, 0.8, 0.8)):             # only the first is smooth in these pictures
            a, b = told[:, c].flatten(), y[:, c].flatten()
            left = (b - a * (a @ b) / (a @ a)).square().sum() / b.square().sum()
            self.assertLess(left.item(), most, f"channel {c}")

    def test_detail_is_drawn_more_often(self):
        data = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
        data[1, :, ::2] = 100
        data[2, ::2] = 50
        got = tiles.weights(data, torch.arange(3), 0.6)
        torch.testing.assert_close(got, torch.tensor([0.4 / 3, 0.4 / 3 + 0.4, 0.4 / 3 + 0.2]))
        x = tiles.crops(data, torch.arange(3), 50, 8, probability=torch.tensor([0.0, 1.0, 0.0]))
        self.assertGreater(x.amax((1, 2, 3)).min().item(), 0.39)

    def test_photographs_are_held_out_whole(self):
        learn, held = tiles.split(torch.arange(3200).numpy())
        self.assertEqual(len(held), len(tiles.HELD_OUT))
        gap = min(abs(int(i) - int(j)) for i in (held[0], held[-1]) for j in learn)
        self.assertGreaterEqual(gap, tiles.GUARD)


    def test_a_tenth_of_few_tiles_is_held_out(self):
        for count, most in ((2, 1), (9, 1), (25, 2), (400, 40), (1727, 172)):
            learn, held = tiles.split(torch.arange(count).numpy())
            self.assertEqual(len(held), most)
            self.assertGreater(len(learn), 0)
            self.assertFalse(set(learn.tolist()) & set(held.tolist()))
            if count > 20:
                self.assertGreaterEqual(held.min() - learn.max(), tiles.GUARD)
        for numbers, most in ((range(1600, 1728), 12), (range(2000, 2100), 10), (range(0, 3200, 25), 6)):
            self.assertEqual(len(tiles.split(torch.tensor(list(numbers)).numpy())[1]), most)

    def test_the_numbers_of_tiles_stay_with_them(self):
        with tempfile.TemporaryDirectory() as folder:
            tar, npy = os.path.join(folder, "thin.tar"), os.path.join(folder, "thin.npy")
            with tarfile.open(tar, "w") as t:
                for number in (3, 1601, 1602, 1800):
                    data = io.BytesIO()
                    Image.fromarray(np.full((96, 64, 3), number % 256, np.uint8)).save(data, "PNG")
                    pack_tiles.add(t, f"{number:05d}.png", data.getvalue())
            tiles.to_npy(tar, npy)
            for path in (tar, npy):
                self.assertEqual(tiles.numbers(path).tolist(), [3, 1601, 1602, 1800])
                self.assertEqual(tiles.side(path), 64)
                data, numbers = tiles.load(path)
                self.assertEqual((numbers.tolist(), data[:, 0, 0, 0].tolist()), ([3, 1601, 1602, 1800], [3, 65, 66, 8]))
            np.save(os.path.join(folder, "thin.numbers.npy"), np.arange(3))
            with self.assertRaisesRegex(ValueError, "is of other tiles"):
                tiles.load(npy)
            os.remove(os.path.join(folder, "thin.numbers.npy"))
            with self.assertRaisesRegex(ValueError, "thin.numbers.npy is missing"):
                tiles.numbers(npy)

    def test_tiles_that_cannot_be_split_are_said_before_training(self):
        with tempfile.TemporaryDirectory() as out, self.assertRaisesRegex(SystemExit, "1 tiles: one is held out"):
            train.main(["--tiles", "synthetic:1", "--out", out])


class Run(unittest.TestCase):
    def test_only_spawned_workers_end_with_who_started_them(self):
        self.assertTrue(train.go_on(None, None))
        self.assertTrue(train.go_on(None, os.getppid()))
        self.assertFalse(train.go_on(None, os.getpid()))

    def test_no_warm_up_is_the_whole_rate_at_once(self):
        a = train.arguments(["--tiles", "", "--out", "", "--warmup", "0"])
        self.assertEqual(train.rate(a, 0.0, 0), 1.0)


class Whole(unittest.TestCase):
    def run_training(self, out, *extra):
        train.main(["--tiles", "synthetic:8", "--out", out, "--minutes", "5", "--batch", "2", "--size", "64", "--steps", "2",
                    "--exchange", "1", "--log-steps", "1", *extra])

    def test_trains_resumes_and_evaluates(self):
        with tempfile.TemporaryDirectory() as out:
            self.run_training(out, "--split-mib", "15")
            path = os.path.join(out, "mean.pt")
            self.assertFalse(os.path.exists(path))
            self.run_training(out, "--resume", path, "--eval-count", "1")
            state, step, _ = checkpoint.load(path)
            self.assertEqual(step, 4)
            self.assertTrue(all(torch.isfinite(v).all() for v in state.values()))
            rows = [json.loads(line) for line in pathlib.Path(out, "log-0.jsonl").read_text().splitlines()]
            self.assertEqual([r["step"] for r in rows], [1, 2, 3, 4])
            rows = json.loads(pathlib.Path(out, "eval.json").read_text())["mean"]
            self.assertLess(rows[0]["bpp"], rows[-1]["bpp"])


    def test_weights_of_bytes_are_saved(self):
        with tempfile.TemporaryDirectory() as out:
            self.run_training(out, "--roles", "entropy", "--bytes")
            state, _, _ = checkpoint.load(os.path.join(out, "mean.pt"))
            for name, most, are in (("h_s.increase.0.weight", 127, True), ("h_a.reduction.0.weight", 127, False),
                                    ("lrp_anchor.1.lrp_transform.0.weight", 31, True), ("global_intra_context.1.mlp.2.weight", 31, False)):
                w = state[name].float().flatten(1)
                steps = w / (w.abs().amax(1, keepdim=True) / most)
                self.assertEqual((steps - steps.round()).abs().max().item() < 0.1, are, name)      # kept as float16


class Export(unittest.TestCase):
    def test_checkpoints_are_read_whole_or_in_parts(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mean.pt")
            checkpoint.save(path, {"module.gain": torch.arange(9.0)}, 3, half=True)
            whole = pathlib.Path(path).read_bytes()
            for count in (12, 3):
                pathlib.Path(path).write_bytes(whole)
                checkpoint.cut(path, -(-len(whole) // count))
                self.assertEqual(len(os.listdir(folder)), count)
                self.assertEqual(checkpoint.load(path)[0]["gain"].tolist(), list(range(9)))

    def test_what_is_no_checkpoint_is_said_in_a_sentence(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.pt")
            for data in (b"", b"hello\n", b"\x08\x07\x12\x07pytorch\x1a\x05", b"PK\x03\x04"):
                pathlib.Path(path).write_bytes(data)
                with self.assertRaisesRegex(ValueError, "not a whole checkpoint of PyTorch$"):
                    checkpoint.load(path)
            gain = {"gain": torch.ones(2), "g_a.x": torch.ones(1)}
            for data, said in (([1, 2], "a list: neither a state dict"), ({"weights": gain, "epoch": 3}, "a dict of 'weights', 'epoch': neither"),
                               ({"state_dict": gain, "loss": np.float64(1)}, r"other objects .*\(numpy.*save it again"),
                               ({"state_dict": gain, "args": argparse.Namespace(a=1)}, r"\(argparse.Namespace\)"),
                               ({"state_dict": gain, "path": pathlib.Path("x")}, r"\(pathlib"),
                               ({f"wrapped.{k}": v for k, v in gain.items()}, "all names begin with 'wrapped'")):
                torch.save(data, path)
                with self.assertRaisesRegex(ValueError, said):
                    checkpoint.load(path)
            pathlib.Path(path).write_bytes(safetensors.torch.save(gain))
            with self.assertRaisesRegex(ValueError, "a file of safetensors"):
                checkpoint.load(path)

    def test_state_dicts_are_found_where_others_put_them(self):
        state = {"gain": torch.ones(2), "g_a.x": torch.ones(1)}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.pt")
            for data in (state, {"model_state_dict": state, "epoch": 3}, {"net": state}, {"model": state}, {f"module._orig_mod.{k}": v for k, v in state.items()},
                         {"_orig_mod.gain": state["gain"], "g_a._orig_mod.x": state["g_a.x"]}):
                torch.save(data, path)
                got, step, lambdas = checkpoint.load(path)
                self.assertEqual((set(got), step, lambdas), (set(state), 0, None))

    def test_training_says_what_it_cannot_go_on_from(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.pt")
            torch.save(mlicpp.MLICPlusPlus(dataclasses.replace(mlicpp.EDGE, transform=(8, 8, 8))).state_dict(), path)
            for resume, said in ((path, "of another shape than what is trained here"), (os.path.join(folder, "absent.pt"), "neither a checkpoint nor parts")):
                with self.assertRaisesRegex(SystemExit, said):
                    train.main(["--tiles", "synthetic:8", "--out", folder, "--size", "64", "--resume", resume])

    def test_sizes_are_multiples_of_the_step_of_z_within_the_tiles(self):
        small = ["--size", "64", "--last-part", "0.1", "--last-size"]
        with tempfile.TemporaryDirectory() as out:
            for options, said in ((["--size", "100"], "--size 100: crops must have a multiple of 64"), ([*small, "300"], "--last-size 300: crops must have"),
                                  (["--size", "192"], "--size 192: the tiles of synthetic:8 have only 128"), ([*small, "320"], "--last-size 320: the tiles of")):
                with self.assertRaisesRegex(SystemExit, said):
                    train.main(["--tiles", "synthetic:8", "--out", out, *options])
            self.assertEqual(os.listdir(out), [])

    def test_slices_that_no_package_has_are_refused(self):
        for slices in (12, 4, 2):
            state = mlicpp.MLICPlusPlus(dataclasses.replace(mlicpp.EDGE, slices=slices)).state_dict()
            with self.assertRaisesRegex(export.ExportError, f"^{192 // slices} channels in a latent slice .* a package has 32 or 64$"):
                export.infer(state)
        self.assertEqual(export.infer(mlicpp.MLICPlusPlus(dataclasses.replace(mlicpp.EDGE, slices=3)).state_dict()).slices, 3)

    def test_heads_that_a_package_cannot_tell_apart_are_refused(self):
        state = mlicpp.MLICPlusPlus(dataclasses.replace(mlicpp.EDGE, heads=4)).state_dict()
        with self.assertRaisesRegex(export.ExportError, "4 heads, and the context within a slice has 2"):
            export.infer(state)

    def test_an_export_that_is_there_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            kept = pathlib.Path(folder, "config.json")
            kept.write_text("{}")
            with unittest.mock.patch("sys.argv", ["export.py", "absent.pt", folder]), contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertEqual(export.main(), 1)
            self.assertIn("--force overwrites", said.getvalue())
            self.assertEqual(kept.read_text(), "{}")


class Levels(unittest.TestCase):
    def test_bits_are_evenly_spaced(self):
        rows = [{"bpp": b} for b in (0.1, 0.2, 0.4, 1.6)]
        for got, want in zip(levels.positions(rows), (0.0, 4 / 3, 2 + 1 / 3, 3.0)):
            self.assertAlmostEqual(got, want)
        for got, want in zip(levels.positions(rows, first=0.2), (1.0, 2.0, 2.5, 3.0)):
            self.assertAlmostEqual(got, want)
        state = {name: torch.tensor([[0.0], [1.0], [3.0], [7.0]]) for name in levels.GAINS}
        levels.respace(state, [0.0, 0.5, 1.5, 3.0])
        self.assertEqual(state["gain"].flatten().tolist(), [0.0, 0.5, 2.0, 7.0])
        with self.assertRaises(ValueError):
            levels.positions([{"bpp": 0.2}, {"bpp": 0.1}])

    def test_every_level_must_have_been_measured(self):
        rows = [{"level": float(level), "bpp": 1.0 + level} for level in range(4)]
        self.assertEqual(levels.measured({"levels": rows}, 4), rows)
        for report, count, said in (({"levels": rows}, 5, "levels 0, 1, 2, 3, and those of the checkpoint are 0, 1, 2, 3, 4:"),
                                    ({"levels": rows[::-1]}, 4, "levels 3, 2, 1, 0,"), ({"levels": rows[:1] + rows[2:]}, 4, "levels 0, 2, 3,"),
                                    ({"mean": rows}, 4, "no `levels`: evaluate.py --json")):
            with self.assertRaisesRegex(ValueError, said):
                levels.measured(report, count)


class Lambdas(unittest.TestCase):
    def test_those_of_a_checkpoint_are_used_and_kept(self):
        own = [0.001 * 2 ** i for i in range(8)]
        with tempfile.TemporaryDirectory() as out, contextlib.ExitStack() as after:
            after.callback(rd.use, None)
            path = os.path.join(out, "from.pt")
            checkpoint.save(path, mlicpp.MLICPlusPlus(mlicpp.EDGE).state_dict(), 5, lambdas=own)
            train.main(["--tiles", "synthetic:8", "--out", out, "--minutes", "5", "--batch", "2", "--size", "64", "--steps", "1", "--resume", path])
            torch.testing.assert_close(rd.lam(torch.tensor([0.0, 1.5])), torch.tensor([0.001, 0.002 * 2 ** 0.5]))
            self.assertEqual(checkpoint.load(os.path.join(out, "mean.pt"))[1:], (6, own))
            again = os.path.join(out, "again.pt")
            with unittest.mock.patch("sys.argv", ["hyper.py", path, again, "--tiles", "synthetic:16"]), contextlib.redirect_stdout(io.StringIO()):
                hyper.main()
            self.assertEqual(checkpoint.load(again)[1:], (5, own))


class Report(unittest.TestCase):
    def test_says_what_is_not_monotone(self):
        mean = lambda q, bpp, psnr: {"percent": q, "bpp": bpp, "psnr_rgb": psnr, "ms_ssim": 0.9 + q / 1e4}
        self.assertEqual(report.monotone([mean(0, 0.1, 28.0), mean(10, 0.2, 29.0)]), [])
        self.assertEqual(report.monotone([mean(0, 0.1, 28.0), mean(10, 0.2, 27.0)]), ["q 0 to 10: psnr_rgb falls"])

    def test_figures_go_between_the_marks(self):
        card = f"a\n{report.BEGIN}\nold\n{report.END}\nb\n"
        self.assertEqual(report.with_figures(card, "new"), card.replace("old", "new"))
        for wrong in ("a\n", f"{report.END} {report.BEGIN}"):
            with self.assertRaisesRegex(ValueError, "there is no <!-- figures: begin --> with"):
                report.with_figures(wrong, "new")


if __name__ == "__main__":
    unittest.main()
