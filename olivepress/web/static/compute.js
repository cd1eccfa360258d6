// What computes: WebGPU, or WebAssembly on the processor. Each is a build of ONNX Runtime of its own, and the one that
// is not needed is not loaded.
import { here, unpacked } from "./files.js";

// Tokens of a prompt that are read at a time. From 32 on WebGPU's attention is a shader that takes 8 lanes of a subgroup
// for granted; with fewer, as software adapters have, it is wrong by a fifth (docs/webgpu.md). Else it is a bound for the
// memory of the logits.
const [NARROW, WIDE] = [31, 256];
const COPIED = { webgpu: "gpu-buffer", wasm: "cpu" };

/** What WebGPU would compute on: its name, whether it is software; or a hindrance: why it computes nothing here. */
export async function gpu() {
  if (!navigator.gpu) return { hindrance: "this browser has none (or has it for pages by https alone)" };
  if (!WebAssembly.Suspending) return { hindrance: "WebAssembly cannot wait for a GPU in this browser (JSPI)" };
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  return adapter ? described(adapter.info) : { hindrance: "this browser finds no GPU" };
}

const described = ({ vendor, architecture, isFallbackAdapter, subgroupMinSize }) => ({
  name: [vendor, architecture].filter(Boolean).join(" ") || "a GPU",
  software: isFallbackAdapter,
  piece: isFallbackAdapter || subgroupMinSize < 8 ? NARROW : WIDE, // no size: no subgroups, and another shader
});

/** A session of the graph on "webgpu" or "wasm", with what a caller needs to feed it. */
export async function open(device, model, externalData, outputs) {
  const [library, loader, wasm] = device === "webgpu"
    ? ["onnxruntime-webgpu.js", "onnxruntime-webgpu-wasm.js", "onnxruntime-webgpu.wasm.gz"]
    : ["onnxruntime.js", "onnxruntime-wasm.js", "onnxruntime.wasm.gz"];
  const ort = await import(here(`packages/${library}`));
  // threads share memory, which browsers allow a page that its server isolates from others (docs/browser.md); half of
  // what the machine says it has, since two are often one core
  const cores = navigator.hardwareConcurrency;
  const threads = device === "wasm" && self.crossOriginIsolated ? Math.min(8, cores, Math.max(2, Math.ceil(cores / 2))) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: here(`packages/${loader}`) };
  ort.env.wasm.wasmBinary = await unpacked(`packages/${wasm}`);
  ort.env.webgpu.powerPreference = "high-performance";
  // what one step leaves to the next, the key-value cache, stays where it was computed
  const preferredOutputLocation = Object.fromEntries(outputs.map((name) => [name, COPIED[device]]));
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [device], externalData, preferredOutputLocation,
    extra: { session: { disable_quant_qdq: "1" } }, // what WebAssembly's graph dequantizes, it does once
    logSeverityLevel: 3, // errors: it warns that lengths are computed on the processor
  });
  const computer = { ort, session, device, piece: WIDE, threads, keep: (tensor) => tensor };
  if (device === "webgpu") {
    const chosen = await ort.env.webgpu.device;
    computer.piece = described(chosen.adapterInfo).piece;
    computer.keep = (tensor) => uploaded(ort, chosen, tensor);
  }
  return computer;
}

/** A tensor that is fed at every step, as a buffer on the GPU. */
function uploaded(ort, device, tensor) {
  const size = Math.ceil(tensor.data.byteLength / 16) * 16; // as ONNX Runtime wants it
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = device.createBuffer({ size, usage, mappedAtCreation: true });
  const { data } = tensor;
  new Uint8Array(buffer.getMappedRange()).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  buffer.unmap();
  return ort.Tensor.fromGpuBuffer(buffer, { dataType: tensor.type, dims: tensor.dims });
}
