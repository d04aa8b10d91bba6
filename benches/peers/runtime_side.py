"""The process of an inference engine: `runtime_side.py onnxruntime|openvino CASE MODEL.onnx`. Everything in f32."""

import json
import sys

from safetensors import safe_open
from safetensors.numpy import save_file

from side import serve


class OnnxRuntime:
    def __init__(self, model, images, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = {"images": images}

    def run(self):
        (self.logits,) = self.session.run(None, self.inputs)

    def results(self):
        return {"logits": self.logits}


class OpenVino:
    def __init__(self, model, images, threads):
        import openvino

        # Without the hint, processors with bf16 arithmetic would compute in bf16.
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(images, shared_memory=True))

    def run(self):
        self.request.infer()

    def results(self):
        return {"logits": self.request.get_output_tensor().data}


def write_results(results, path):
    save_file({name: value.reshape(-1).copy() for name, value in results.items()}, path)


def main():
    engine, case, model = sys.argv[1:]
    with safe_open(case, framework="np") as file:
        threads = json.loads(file.metadata()["case"])["threads"]
        images = file.get_tensor("test/images")
    serve({"onnxruntime": OnnxRuntime, "openvino": OpenVino}[engine](model, images, threads), write_results)


if __name__ == "__main__":
    main()
