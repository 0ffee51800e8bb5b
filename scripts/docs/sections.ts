import { WeightlessError } from '#protocol/error.ts'

/** A document has a generated section that nothing generates, or is broken (code `DOCS_SECTION`). */
export class DocsError extends WeightlessError {}

const sectionPattern = /(<!-- generated: ([a-z0-9-]+) -->\n)([\s\S]*?)(<!-- end -->)/g

/**
 * Puts fresh text into every `<!-- generated: NAME -->…<!-- end -->` of a document.
 *
 * @throws {DocsError} `DOCS_SECTION` for a name that nothing generates
 */
export async function fillSections({
  text,
  generate,
}: {
  text: string
  generate: Readonly<Record<string, () => string | Promise<string>>>
}): Promise<string> {
  const fresh = new Map<string, string>()
  for (const [, , name = ''] of text.matchAll(sectionPattern)) {
    const make = generate[name]
    if (make === undefined) {
      throw new DocsError({
        code: 'DOCS_SECTION',
        message: `nothing generates the section ${name}`,
        fix: `use one of ${Object.keys(generate).join(', ')}`,
      })
    }
    fresh.set(name, (await make()).trim())
  }
  return text.replaceAll(sectionPattern, (_, open: string, name: string, _old: string, close: string) => {
    return `${open}\n${fresh.get(name)}\n\n${close}`
  })
}
