import type { Serving } from '../serve/serving.ts'

/** `GET /v1/models` (compute.md §2.7): the model under its market name, and each adapter of it that is known. */
export async function modelList(serving: Serving) {
  const info = await serving.engineInfo()
  const service = await serving.view.service().catch(() => undefined)
  const name = service?.model ?? serving.modelName ?? info.model
  const contextTokens = serving.contextTokens(info)
  const { capabilities } = info
  const model = (id: string) => ({
    ...{ id, object: 'model', created: 0, owned_by: serving.provider, name: id },
    type: capabilities.chat || capabilities.completions ? 'chatbot' : 'embedding',
    description: `${info.model} on ${info.kind}`,
    ...(contextTokens === 0 ? {} : { context_length: contextTokens, max_completion_tokens: contextTokens }),
    architecture: { modality: 'text->text', input_modalities: ['text'], output_modalities: ['text'] },
    supported_parameters: [
      ...['max_tokens', 'max_completion_tokens', 'temperature', 'top_p', 'stop', 'stream'],
      ...(capabilities.seed ? ['seed'] : []),
      ...(capabilities.logprobs ? ['logprobs', 'top_logprobs'] : []),
      ...(capabilities.tools ? ['tools', 'tool_choice'] : []),
      ...(capabilities.jsonSchema ? ['response_format'] : []),
    ],
    pricing: {
      prompt: String(service?.inputPriceWei ?? 0n),
      completion: String(service?.outputPriceWei ?? 0n),
    },
    ...{ verifiability: service?.verifiability ?? '', provider_type: 'decentralized' },
    ...{ model_root: info.modelId, engine: `${info.kind} ${info.build}`, sampling_profiles: info.profiles },
  })
  const { adapters } = serving
  const base = { ...model(name), adapters: { by_root: adapters.takesRoots, max_bytes: adapters.maxBytes } }
  const adapted = adapters.list().map((adapter) => ({
    ...model(`${name}:${adapter.name}`),
    ...{ adapter_root: adapter.root, adapter_state: adapter.state },
  }))
  return { object: 'list', data: [base, ...adapted] }
}

/** `GET /v1/lora/adapters` (compute.md §4.8): the adapters that can be asked for by name. */
export async function adapterList(serving: Serving) {
  const { model } = await serving.engineInfo()
  const adapters = serving.adapters.list().map(({ name, root, state }) => ({
    ...{ adapterName: name, baseModel: model, state: state === 'loaded' ? 'active' : 'ready' },
    ...{ taskId: '', userAddress: '', storageRootHash: root },
  }))
  return { adapters }
}
