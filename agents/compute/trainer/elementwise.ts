import { lax, numpy as np, type Array as Tensor } from '@jax-js/jax'

/** The exponential is taken of x / 2^SQUARINGS and squared so often. */
const SQUARINGS = 7
/** Beyond this on either side the argument is cut off: e^-30 is nothing beside 1 in f32. */
const LARGEST = 30
/** Degree of the polynomial; its error at LARGEST / 2^SQUARINGS is below the rounding of f32. */
const DEGREE = 6
/** A little more than what is left of e^-LARGEST, so that masked positions weigh exactly nothing. */
const LEAST = 1e-13

/**
 * e^x for |x| <= 30 by multiplications and additions alone. On the CPU jax-js computes these four at a time, but its own
 * `exp` one by one, and a kernel that holds one `exp` or one division is slow as a whole: this is three times as fast. The
 * relative error stays below 1e-5. Has no gradient of its own: see the callers.
 */
function power(x: Tensor): Tensor {
  const t = np.clip(x, -LARGEST, LARGEST).mul(1 / 2 ** SQUARINGS)
  let y = t.ref.mul(1 / DEGREE).add(1)
  for (let n = DEGREE - 1; n >= 2; n--) y = y.mul(t.ref.mul(1 / n)).add(1)
  y = y.mul(t).add(1)
  for (let i = 0; i < SQUARINGS; i++) y = np.square(y)
  return y
}

/** e^x for x <= 0, and its gradient, which is itself; exactly 0 far below. */
export function exponential(x: Tensor): Tensor {
  const value = np.maximum(power(lax.stopGradient(x.ref)).sub(LEAST), 0)
  // The factor is 1; its gradient is that of x.
  return value.mul(x.ref.sub(lax.stopGradient(x)).add(1))
}

/** Softmax over the last axis. */
export function softmax(x: Tensor): Tensor {
  const top = lax.stopGradient(np.max(x.ref, -1, { keepdims: true }))
  const e = exponential(x.sub(top))
  // Barriers on what is small: the large kernels are left without divisions, forward and backward.
  const sum = barrier(e.ref.sum(-1, { keepdims: true }))
  return e.mul(barrier(np.reciprocal(sum)))
}

/** x / (1 + e^-x), and its gradient in closed form. */
export function silu(x: Tensor): Tensor {
  const fixed = lax.stopGradient(x.ref)
  // Used twice, so both become kernels of their own: the exponential in fours, the division not.
  const e = power(fixed.ref.neg())
  const s = np.reciprocal(e.ref.add(1))
  const value = fixed.ref.mul(s.ref)
  const slope = s.ref.add(value.ref.mul(s).mul(e))
  return value.add(slope.mul(x.sub(fixed)))
}

/**
 * The identity, with its value and its gradient both materialised: a sum over two halves is a kernel boundary in both
 * directions. For small arrays, to keep what is computed from them out of large kernels.
 */
export function barrier(x: Tensor): Tensor {
  const halves = np.array([0.5, 0.5]).reshape([2, ...x.shape.map(() => 1)])
  return np
    .broadcastTo(x.reshape([1, ...x.shape]), [2, ...x.shape])
    .mul(halves)
    .sum(0)
}

/**
 * The identity, as a copy in the order of its axes. Exact, and not optimised away as x1 and +0 are: without it a product
 * would read a transposed view element by element, which makes it many times slower.
 */
export function copy(x: Tensor): Tensor {
  return x.mul(0.5).mul(2)
}
