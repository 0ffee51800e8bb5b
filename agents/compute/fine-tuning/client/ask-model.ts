import { createLlamaEngine } from '#compute/engines/llama-engine.ts'
import { parseChatRequest } from '#compute/engines/requests.ts'

/**
 * Asks a base model with an adapter on this machine; the answer comes piece by piece.
 *
 * @throws EngineError
 */
export async function* askAdapter(parameters: {
  basePath: string
  adapterPath: string
  question: string
  maxTokens?: number | undefined
  signal: AbortSignal
}): AsyncGenerator<string, void, void> {
  const { basePath, adapterPath, question, maxTokens = 256, signal } = parameters
  const engine = await createLlamaEngine({ modelPath: basePath, name: 'base' })
  try {
    await engine.loadAdapter({ name: 'tuned', path: adapterPath })
    const body = {
      ...{ model: 'base:tuned', temperature: 0, max_tokens: maxTokens },
      messages: [{ role: 'user', content: question }],
    }
    for await (const event of engine.chat(parseChatRequest(body), { signal })) {
      if (event.type !== 'chunk') continue
      for (const choice of event.choices) {
        const content: unknown = Reflect.get(Reflect.get(choice, 'delta') ?? {}, 'content')
        if (typeof content === 'string') yield content
      }
    }
  } finally {
    await engine.close()
  }
}
