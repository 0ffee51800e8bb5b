import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** Links of documents that lead nowhere: to files that do not exist, or to headings that no document has. */
export function checkLinks({ root, documents }: { root: string; documents: readonly string[] }): string[] {
  const problems: string[] = []
  for (const name of documents) {
    const text = withoutCode(readFileSync(path.join(root, name), 'utf8'))
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [file = '', heading] = target.split('#')
      const full = file === '' ? path.join(root, name) : path.join(root, path.dirname(name), file)
      if (!existsSync(full)) problems.push(`${name}: ${target} does not exist`)
      else if (heading !== undefined && !headingsOf(full).has(heading)) problems.push(`${name}: no heading ${target}`)
    }
  }
  return problems
}

function headingsOf(file: string): Set<string> {
  const headings = withoutCode(readFileSync(file, 'utf8')).matchAll(/^#+ (.+)$/gm)
  return new Set([...headings].map(([, title = '']) => anchorOf(title)))
}

/** As code hosts make them: lower case, words joined by hyphens, punctuation dropped. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .trim()
    .replaceAll(' ', '-')
}

function withoutCode(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, '')
}
