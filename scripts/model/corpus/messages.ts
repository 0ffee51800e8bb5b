import type { Example } from '#compute/trainer/chat-format.ts'
import type { Document } from './generate.ts'

/** A document of the corpus as the trainer takes it. */
export function exampleOf(document: Document): Example {
  if (document.kind === 'text') return { kind: 'text', text: document.text }
  const turns = document.exchanges.flatMap(({ question, answer }) => [
    { role: 'user', content: question } as const,
    { role: 'assistant', content: answer } as const,
  ])
  return {
    kind: 'chat',
    messages: document.system === undefined ? turns : [{ role: 'system', content: document.system }, ...turns],
  }
}

/** All text of a document, for the vocabulary. */
export function textsOf(document: Document): string[] {
  const example = exampleOf(document)
  return example.kind === 'text' ? [example.text] : example.messages.map(({ content }) => content)
}
