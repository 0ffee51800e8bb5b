import { Template } from '@huggingface/jinja'
import { EngineError } from '../engine-error.ts'
import type { ChatMessage, ChatRequest } from '../requests.ts'
import { unsupported } from './plan.ts'

/** Characters of the private use planes that mark where a message begins and ends in the rendered text. */
const BEGIN = '\u{F4E2A}'
const END = '\u{F4E2B}'

/** What the prompt of a chat needs of a model. */
export interface ChatModel {
  template: string
  bosText: string
  eosText: string
  /** The begin token where the model wants one in front. */
  bos: number | undefined
  /** Texts of control tokens, which must not act when a message contains them. */
  controlTexts: readonly string[]
  tokenize: (text: string, special: boolean) => readonly number[]
}

/**
 * Renders chats with the model's own Jinja template and makes tokens of them. Control tokens come from the template alone:
 * the same characters inside a message stay ordinary text.
 */
export class ChatPrompt {
  readonly #model: ChatModel
  readonly #template: Template
  readonly #keepsSystem: boolean
  /** The template knows what to do with tools. */
  readonly hasTools: boolean

  /** @throws EngineError `ENGINE_LOAD` when the template does not parse */
  constructor(model: ChatModel) {
    this.#model = model
    try {
      this.#template = new Template(model.template)
    } catch (cause) {
      throw new EngineError({ code: 'ENGINE_LOAD', message: 'the chat template of the model does not parse', cause })
    }
    this.hasTools = /\btools\b/.test(model.template)
    this.#keepsSystem = this.#probeSystem()
  }

  /**
   * Tokens of a chat up to where the answer begins.
   *
   * @throws EngineError `ENGINE_REQUEST` for messages that the template refuses, `ENGINE_UNSUPPORTED` for tools and pictures
   */
  tokens(request: ChatRequest): number[] {
    const messages = this.#withSystem(request.messages.map(plainMessage))
    const wantsTools = (request.tools?.length ?? 0) > 0 && request.toolChoice !== 'none'
    if (wantsTools && !this.hasTools) throw unsupported('tools', "the model's chat template knows no tools")
    const options = Reflect.get(request.raw, 'chat_template_kwargs')
    const context = {
      ...(typeof options === 'object' && options !== null ? options : {}),
      ...(wantsTools ? { tools: request.tools } : {}),
    }
    const said = JSON.stringify([messages, context])
    const isHarmless = !this.#model.controlTexts.some((text) => said.includes(text))
    return isHarmless ? this.#plain(messages, context) : this.#marked(messages, context)
  }

  #plain(messages: readonly TemplateMessage[], context: object): number[] {
    return this.#withBos([...this.#model.tokenize(this.#render(messages, context), true)])
  }

  /** Control tokens stand in a message: its text is marked, and tokenized apart from the template's. */
  #marked(messages: readonly TemplateMessage[], context: object): number[] {
    const clean = (text: string) => text.replaceAll(BEGIN, '').replaceAll(END, '')
    const marked = messages.map((message) => ({ ...message, content: `${BEGIN}${clean(message.content)}${END}` }))
    const parts = this.#render(marked, context).split(/([\u{F4E2A}\u{F4E2B}])/u)
    const tokens: number[] = []
    let isInside = false
    for (const part of parts) {
      const isMark = part === BEGIN || part === END
      if (isMark && isInside === (part === BEGIN)) throw notCarried()
      if (isMark) isInside = !isInside
      else if (part !== '') tokens.push(...this.#model.tokenize(part, !isInside))
    }
    const control = JSON.stringify(context)
    if (isInside || this.#model.controlTexts.some((text) => control.includes(text))) throw notCarried()
    return this.#withBos(tokens)
  }

  #render(messages: readonly TemplateMessage[], context: object): string {
    try {
      return this.#template.render({
        ...context,
        messages,
        add_generation_prompt: true,
        bos_token: this.#model.bosText,
        eos_token: this.#model.eosText,
      })
    } catch (cause) {
      throw new EngineError({
        code: 'ENGINE_REQUEST',
        message: `the model's chat template refuses these messages: ${cause instanceof Error ? cause.message.slice(0, 300) : ''}`,
        fix: 'check the order and the roles of the messages',
        details: { field: 'messages' },
        cause,
      })
    }
  }

  #withBos(tokens: number[]): number[] {
    const { bos } = this.#model
    if (bos !== undefined && tokens[0] !== bos) tokens.unshift(bos)
    return tokens
  }

  /** Whether a system message leaves a trace: templates without a branch for it drop it silently. */
  #probeSystem(): boolean {
    const probe = 'aSystemMessageForTheProbe'
    try {
      const user = { role: 'user', content: 'a' }
      return this.#render([{ role: 'system', content: probe }, user], {}).includes(probe)
    } catch {
      return false
    }
  }

  /** Puts system messages in front of the first user message where the template would lose them. */
  #withSystem(messages: readonly TemplateMessage[]): readonly TemplateMessage[] {
    if (this.#keepsSystem || !messages.some(({ role }) => role === 'system')) return messages
    const system = messages.filter(({ role }) => role === 'system').map(({ content }) => content)
    const others = messages.filter(({ role }) => role !== 'system')
    const first = others.findIndex(({ role }) => role === 'user')
    if (first < 0) return [{ role: 'user', content: system.join('\n\n') }, ...others]
    return others.map((message, i) =>
      i === first ? { ...message, content: [...system, message.content].join('\n\n') } : message,
    )
  }
}

interface TemplateMessage {
  role: string
  content: string
  [field: string]: unknown
}

/** A message as templates want it: text for content, objects for the arguments of calls. */
function plainMessage({ role, content, tool_calls, ...rest }: ChatMessage, index: number): TemplateMessage {
  const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : (content ?? [])
  const text = parts.map(({ type, text }) => {
    if (type === 'text' && text !== undefined) return text
    throw unsupported(`messages.${index}.content`, `content of type ${type} is not read by this engine`)
  })
  const calls = tool_calls?.map((call) => ({
    ...call,
    function: { ...call.function, arguments: parsedOrText(call.function.arguments) },
  }))
  return {
    ...rest,
    role: role === 'developer' ? 'system' : role,
    content: text.join(''),
    ...(calls === undefined ? {} : { tool_calls: calls }),
  }
}

function parsedOrText(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

function notCarried(): EngineError {
  return new EngineError({
    code: 'ENGINE_REQUEST',
    message: 'a message contains a control token of the model, which its chat template cannot carry as text',
    fix: 'write the token differently',
    details: { field: 'messages' },
  })
}
