#!/usr/bin/env python3
"""Architectures of torchvision, timm and transformers, as PyTorch's two exporters write them, by graft and by ONNX Runtime.

    architectures.py GRAFT [--exporter torchscript|dynamo|both] [--device D] [--keep FOLDER] [--speed] [NAME ...]

NAME is torchvision/ARCHITECTURE, timm/ARCHITECTURE or transformers/MODEL_TYPE; without one, a list of all kinds is taken. Weights are random, statistics of
normalisations those of random images, the batch is left open in the file. Prints the relative error of two random images' outputs,
and exits with 1 if one is above 1e-4 or a file is refused; with --speed also images a second at batch 8 of both on every core, one
after the other, and the ratio. Needs torch, torchvision, timm, transformers, onnxscript and onnxruntime.
"""
import argparse
import contextlib
import io
import json
import logging
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import timm
import torch
import torchvision
import transformers

ALL = """
torchvision/resnet18 mobilenet_v2 mobilenet_v3_small mnasnet0_5 shufflenet_v2_x1_0 squeezenet1_1 googlenet inception_v3 efficientnet_b0
efficientnet_v2_s regnet_y_400mf convnext_tiny vit_b_16 swin_t swin_v2_t maxvit_t resnext50_32x4d densenet121 vgg11_bn
timm/tf_efficientnet_b0 mobilevit_xs mobilevitv2_050 repvgg_a0 ghostnet_050 hrnet_w18_small dla34 res2net50_14w_8s seresnet50 ecaresnet26t
resnest14d coatnet_nano_rw_224 convmixer_768_32 mixer_s32_224 gmlp_ti16_224 resmlp_12_224 deit_tiny_patch16_224 deit3_small_patch16_224
beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224 xcit_nano_12_p16_224 levit_128s pit_ti_224 twins_svt_small pvt_v2_b0 poolformer_s12
edgenext_xx_small efficientformer_l1 fastvit_t8 mobileone_s0 mobilenetv4_conv_small nfnet_l0 lcnet_050 selecsls42b ese_vovnet19b_dw inception_v4
xception41 convnextv2_atto davit_tiny focalnet_tiny_srf crossvit_tiny_240 visformer_tiny convit_tiny halonet26t botnet26t_256
swinv2_tiny_window8_256 tiny_vit_5m_224 repvit_m0_9 rexnet_100 gcresnet33ts skresnet18 efficientvit_b0 efficientvit_m0 ghostnetv2_100
hiera_tiny_224 inception_next_tiny caformer_s18 starnet_s1 mambaout_femto vit_base_patch16_siglip_224 vit_small_patch14_dinov2 nasnetalarge
tnt_s_patch16_224 maxxvit_rmlp_nano_rw_256 mobilenetv4_hybrid_medium regnetz_b16 volo_d1_224
transformers/vit deit beit data2vec-vision dinov2 dinov2_with_registers dinov3_vit dinov3_convnext convnext convnextv2 swin swinv2 resnet regnet
mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 segformer pvt pvt_v2 cvt levit poolformer focalnet swiftformer bit efficientnet ijepa vit_msn
hiera textnet hgnet_v2 siglip_vision_model clip_vision_model aimv2_vision_model vitdet glpn donut-swin
"""


class FirstTensor(torch.nn.Module):
    """Of what a model of transformers returns: logits, or what comes before them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        found = self.model(x)
        return next(found[key] for key in ("logits", "pooler_output", "last_hidden_state") if found.get(key) is not None)


def of_transformers(model_type):
    config = transformers.AutoConfig.for_model(model_type)
    side = getattr(config, "image_size", 224)
    side = 224 if side is None else side if isinstance(side, int) else side[0]
    kinds = transformers.AutoModelForImageClassification, transformers.AutoModel
    known = next(kind._model_mapping[type(config)] for kind in kinds if type(config) in kind._model_mapping)
    return FirstTensor((known[0] if isinstance(known, tuple) else known)(config)), side


def listed():
    library = ""
    for word in ALL.split():
        if "/" in word:
            library, word = word.split("/")
        yield f"{library}/{word}"


def built(name):
    """The network in inference mode, and the side of its images."""
    library, architecture = name.split("/")
    if library == "transformers":
        network, side = of_transformers(architecture)
    elif library == "torchvision":
        network, side = torchvision.models.get_model(architecture, weights=None), 299 if "inception" in architecture else 224
    else:
        network = timm.create_model(architecture, pretrained=False, exportable=True)
        side = network.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            # What starts at nothing would hide what it multiplies.
            if any(part in parameter_name for part in ("gamma", "layer_scale", "lambda", "ls1", "ls2")):
                parameter.fill_(0.3)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
            elif not parameter.any():
                parameter.normal_(std=0.02)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.9
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        network.train()(torch.randn(2, 3, side, side))
    return network.eval(), side


def export(network, side, exporter, path):
    x = torch.randn(2, 3, side, side)
    names = {"input_names": ["input"], "output_names": ["output"]}
    if exporter == "dynamo":
        torch.onnx.export(
            network, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False, **names)
    else:
        torch.onnx.export(
            network, (x,), path, dynamo=False, opset_version=17, dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, **names)


def compared(graft, device, path, side, folder):
    """The relative error of the outputs, ‖a − b‖ / ‖b‖; a text where graft refuses the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((2, 3, side, side)).astype(np.float32)
    expected = session.run(["output"], {"input": x})[0].astype(np.float64)
    np.save(f"{folder}/x.npy", x)
    run = [graft, "run", path, "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy", "--output-name", "output", "--device", device]
    done = subprocess.run(run, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    found = np.load(f"{folder}/y.npy")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected)) if found.shape == expected.shape else f"shape {found.shape}"


def rates(graft, device, path, side, seconds=1.2, batch=8):
    """Images a second by graft and by ONNX Runtime, the median of as many runs as fit the time."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = {"input": np.random.default_rng(2).standard_normal((batch, 3, side, side)).astype(np.float32)}
    session.run(["output"], x)
    times, begin = [], time.monotonic()
    while len(times) < 3 or time.monotonic() - begin < seconds:
        start = time.monotonic()
        session.run(["output"], x)
        times.append(time.monotonic() - start)
    del session
    run = [graft, "bench", path, "--batch-size", str(batch), "--seconds", str(seconds), "--device", device, "--json"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["images_per_second"]["median"], batch / statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graft")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--exporter", choices=["torchscript", "dynamo", "both"], default="both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files here, and take those that are there")
    parser.add_argument("--speed", action="store_true", help="measure both as well")
    options = parser.parse_intermixed_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    exporters = ["torchscript", "dynamo"] if options.exporter == "both" else [options.exporter]
    ratios = []
    outcomes = {"agree": 0, "differ": 0, "are refused": 0, "are not exported": 0}
    for name in options.names or listed():
        torch.manual_seed(0)
        network, side = built(name)
        for exporter in exporters:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(options.keep or folder) / f"{name.replace('/', '_')}.{exporter}.onnx"
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    if not path.exists():
                        # An exporter that fails prints the whole graph first.
                        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                            export(network, side, exporter, str(path))
                except Exception as error:  # Exporters fail in many ways; that is no fault of the file's reader.
                    outcome, text = "are not exported", str(error).splitlines()[0][:120] if str(error) else type(error).__name__
                else:
                    result = compared(options.graft, options.device, str(path), side, folder)
                    outcome = "are refused" if isinstance(result, str) else "agree" if result <= 1e-4 else "differ"
                    text = result if isinstance(result, str) else f"{result:.2e}"
                    if options.speed and outcome == "agree":
                        ours, theirs = rates(options.graft, options.device, str(path), side)
                        ratios.append(ours / theirs)
                        text += f"  {ours:7.1f} and {theirs:7.1f} images/s, {ours / theirs:.2f}"
            outcomes[outcome] += 1
            print(f"{name:44s} {exporter:12s} {text}{'' if outcome == 'agree' else f'  ({outcome[4:]})'}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    if ratios:
        faster = sum(ratio >= 1 for ratio in ratios)
        print(f"ratio {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}; at least as fast with {faster} of {len(ratios)}")
    return outcomes["differ"] + outcomes["are refused"] > 0


if __name__ == "__main__":
    sys.exit(main())
