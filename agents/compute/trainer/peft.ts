import { LINEARS, type Linear, type LlamaConfig, linearShape, type Weights } from '#protocol/gguf/llama.ts'
import type { Lora } from '#protocol/gguf/lora.ts'
import { writeSafetensors } from './safetensors.ts'

/** Names of the projections in Hugging Face's Llama. */
const modules: Readonly<Record<Linear, string>> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
}

/**
 * An adapter as Python's PEFT stores it: `adapter_model.safetensors` and `adapter_config.json`. Rows of B of q and k are
 * put into Hugging Face's order, where the halves of a head follow each other.
 */
export function peftAdapter({
  config,
  lora,
  targets,
  rank,
}: {
  config: LlamaConfig
  lora: Lora
  targets: readonly Linear[]
  rank: number
}): {
  tensors: Uint8Array
  configJson: string
} {
  const tensors: Weights = {}
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of LINEARS) {
      const a = lora.weights[`${layer}.${linear}.a`]
      const b = lora.weights[`${layer}.${linear}.b`]
      if (a === undefined || b === undefined) continue
      const name = `base_model.model.model.layers.${layer}.${modules[linear]}`
      tensors[`${name}.lora_A.weight`] = a
      const [out] = linearShape(config, linear)
      tensors[`${name}.lora_B.weight`] = { shape: [out, rank], data: headOrder({ config, linear, rank, data: b.data }) }
    }
  }
  const configJson = JSON.stringify(
    {
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: rank,
      lora_alpha: lora.alpha,
      lora_dropout: 0,
      bias: 'none',
      inference_mode: true,
      target_modules: targets.map((target) => modules[target].split('.')[1]),
    },
    undefined,
    2,
  )
  return { tensors: writeSafetensors({ tensors, metadata: { format: 'pt' } }), configJson: `${configJson}\n` }
}

/** Part-major rows [2, heads, half] to [heads, 2, half]; other projections as they are. */
function headOrder({
  config,
  linear,
  rank,
  data,
}: {
  config: LlamaConfig
  linear: Linear
  rank: number
  data: Float32Array
}): Float32Array {
  if (linear !== 'q' && linear !== 'k') return data
  const heads = linear === 'q' ? config.heads : config.kvHeads
  const block = (config.headDim / 2) * rank
  const out = new Float32Array(data.length)
  for (let part = 0; part < 2; part++) {
    for (let head = 0; head < heads; head++) {
      const from = (part * heads + head) * block
      out.set(data.subarray(from, from + block), (head * 2 + part) * block)
    }
  }
  return out
}
