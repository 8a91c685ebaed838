"""Tests of the references that need no GPU: the model against a fixture and gen.py, the Triton scan in its interpreter.

    python test.py
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import unittest  # noqa: E402

import torch  # noqa: E402

import build  # noqa: E402
import step  # noqa: E402
from common import relative  # noqa: E402
from kernels import gen, plain_conv, plain_scan  # noqa: E402
from model import Map, preset, tables  # noqa: E402

torch.set_num_threads(1)


class References(unittest.TestCase):
    def test_model_reproduces_the_fixture(self):
        worst, compared = step.verify("cpu", plain_scan, plain_conv, 1e-9)
        self.assertGreater(compared, 100)

    def test_model_is_the_readable_one_at_the_paper_s_shape(self):
        cfg = preset("tiny") | dict(depth=3, img_size=64)
        g = torch.Generator().manual_seed(1)
        P = {k: v.double() for k, v in gen.draw(gen.map_shapes(cfg), g).items()}
        images, mask = gen.pictures(2, 64, g).double(), gen.masks((2,), 16, 8, g).double()
        act = {}
        want = gen.map_loss(gen.decode(gen.encode(images, mask, P, cfg, {}, act), mask, P, cfg, act), images, mask)
        got = Map(cfg, plain_scan, plain_conv).loss(P, images, *tables(mask), mask)
        self.assertLess(abs((got - want).item()), 1e-12)

    def test_parameter_count_is_the_papers(self):
        shapes = gen.map_shapes(preset("tiny"))
        self.assertEqual(sum(torch.Size(s).numel() for s in shapes.values()), 13_644_904)

    def test_one_architecture_is_left_in_a_setup(self):
        pair = '{0}cc_flag.append("-gencode")\n{0}cc_flag.append("arch=compute_{1},code=sm_{1}")\n'
        setup = "if True:\n" + pair.format("    ", 75) + "if True:\n" + pair.format("    ", 90) + pair.format("", 100)
        scope = {"cc_flag": []}
        exec(build.one_architecture(setup, "90"), scope)
        self.assertEqual(scope["cc_flag"], ["-gencode", "arch=compute_90,code=sm_90"])
        self.assertEqual(build.one_architecture("another layout", "90"), "another layout")

    def test_triton_scan_and_every_gradient(self):
        try:
            from scan_triton import selective_scan_triton
        except ImportError as e:
            self.skipTest(str(e))
        g = torch.Generator().manual_seed(2)
        r = lambda *shape: torch.randn(*shape, generator=g)
        for B, E, L in [(1, 2, 5), (2, 3, 37), (1, 2, 130)]:  # part of a chunk of 16, part of one of 64, three of 64
            X = dict(u=r(B, E, L), delta=r(B, E, L), A=-torch.exp(r(E, 16)), B=r(B, 16, L), C=r(B, 16, L))
            X |= dict(D=r(E), z=r(B, E, L), delta_bias=r(E))
            dout, results = r(B, E, L), []
            for scan, dtype in ((plain_scan, torch.float64), (selective_scan_triton, torch.float32)):
                leaves = gen.leaves(X, dtype)
                out = scan(**leaves)
                results.append([out, *torch.autograd.grad(out, list(leaves.values()), dout.to(dtype))])
            for name, want, got in zip(["out", *X], *results):
                self.assertLess(relative(got, want), 5e-6, f"{name} at {(B, E, L)}")
        # tensors that have a value per token as f16: 11 bits, rounded when read and when written
        stored = {k: v.half() if k in ("u", "delta", "B", "C", "z") else v for k, v in X.items()}
        results = []
        for scan, dtype in ((plain_scan, torch.float64), (selective_scan_triton, None)):
            leaves = {k: v.detach().to(dtype or v.dtype).requires_grad_() for k, v in stored.items()}
            out = scan(**leaves)
            results.append([out, *torch.autograd.grad(out, list(leaves.values()), dout.half().to(out.dtype))])
        for name, want, got in zip(["out", *X], *results):
            self.assertLess(relative(got, want), 1e-3, f"{name} in f16")


if __name__ == "__main__":
    unittest.main()
