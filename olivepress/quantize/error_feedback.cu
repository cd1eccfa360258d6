// Compiled by PyTorch's NVRTC (error_feedback.py), which puts `constexpr int BLOCK, LANES` in front.
//
// Rounds a block of inputs one after the other; a thread has an output to itself. All arrays are [inputs, outputs] but
// factor, [inputs, inputs]. Products, sums and quotients are rounded each, as PyTorch's separate operations round them.
extern "C" __global__ void round_block(
    const float* left, const float* scale, const float* zero, const float* factor, float* integers, float* errors,
    int inputs, int outputs, int most) {
  __shared__ float rest[BLOCK][LANES];
  const int lane = threadIdx.x, output = blockIdx.x * LANES + lane;
  if (output >= outputs) return;
  for (int i = 0; i < inputs; ++i) rest[i][lane] = left[(size_t)i * outputs + output];
  for (int i = 0; i < inputs; ++i) {
    const size_t place = (size_t)i * outputs + output;
    const float* row = factor + i * inputs;
    const float s = scale[place], z = zero[place];
    float q = __fadd_rn(rintf(__fdiv_rn(rest[i][lane], s)), z);
    q = q < 0.0f ? 0.0f : q > (float)most ? (float)most : q;  // NaN stays NaN
    const float error = __fdiv_rn(__fsub_rn(rest[i][lane], __fmul_rn(__fsub_rn(q, z), s)), row[i]);
    integers[place] = q;
    errors[place] = error;
#pragma unroll 8
    for (int j = i + 1; j < inputs; ++j) rest[j][lane] = __fsub_rn(rest[j][lane], __fmul_rn(row[j], error));
  }
}
