import { readFileSync } from 'node:fs'
import path from 'node:path'
import ts from 'typescript'
import { matchingFiles } from '../build/content-hash.ts'

/** One way in which a code is raised. Values that are filled in at run time are shown as `‹name›`. */
export interface ErrorUse {
  code: string
  /** Part of the system: the folder below `agents/`, or `scripts`. */
  area: string
  message: string
  fix: string | undefined
}

/**
 * Every error that the sources raise on purpose: each object with `code` and `message` where `code` is written in capitals.
 * Read from the syntax tree, so that the page of errors cannot name one that does not exist, or miss one.
 */
export function collectErrorUses(root: string): ErrorUse[] {
  const files = matchingFiles({ root, patterns: ['agents/**/*.ts', 'scripts/{deploy,devnet}/**/*.ts'] }).filter(
    (name) => !/\/(assembly|build)\//.test(name),
  )
  const uses = files.flatMap((name) => usesIn({ name, text: readFileSync(path.join(root, name), 'utf8') }))
  const seen = new Set<string>()
  return uses
    .filter(({ code, message, area }) => {
      const key = `${code}\0${message}\0${area}`
      return !seen.has(key) && seen.add(key)
    })
    .sort((a, b) => compare(a.code, b.code) || compare(a.area, b.area) || compare(a.message, b.message))
}

/** The uses as a Markdown table, one row for each code and message. */
export function errorCodesMarkdown(uses: readonly ErrorUse[]): string {
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ')
  const rows = uses.map(
    ({ code, area, message, fix }) => `| \`${code}\` | ${area} | ${cell(message)} | ${cell(fix ?? '')} |`,
  )
  return ['| Code | Part | Message | What to do |', '|---|---|---|---|', ...rows].join('\n')
}

function usesIn({ name, text }: { name: string; text: string }): ErrorUse[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true)
  const uses: ErrorUse[] = []
  const area = name.startsWith('scripts/') ? name.split('/').slice(1, 2).join('/') : areaOf(name)
  const visit = (node: ts.Node): void => {
    if (ts.isObjectLiteralExpression(node)) {
      const codes = codesOf(propertyOf(node, 'code'))
      const message = propertyOf(node, 'message')
      const fix = propertyOf(node, 'fix')
      if (codes.length > 0 && message !== undefined) {
        for (const code of codes) {
          uses.push({ code, area, message: textOf(message), fix: fix === undefined ? undefined : textOf(fix) })
        }
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return uses
}

/** `agents/storage/node/store/x.ts` is of `storage/node`, `agents/kit/keys/x.ts` of `kit`. */
function areaOf(name: string): string {
  const [, layer = '', part = '', ...rest] = name.split('/')
  return layer === 'storage' && rest.length > 0 ? `${layer}/${part}` : layer
}

function propertyOf(object: ts.ObjectLiteralExpression, name: string): ts.Expression | undefined {
  for (const property of object.properties) {
    if (ts.isPropertyAssignment(property) && ts.isIdentifier(property.name) && property.name.text === name) {
      return property.initializer
    }
    if (ts.isShorthandPropertyAssignment(property) && property.name.text === name) return property.name
  }
  return undefined
}

/** Literal codes in an expression, both of a conditional. */
function codesOf(expression: ts.Expression | undefined): string[] {
  if (expression === undefined) return []
  if (ts.isStringLiteralLike(expression))
    return /^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/.test(expression.text) ? [expression.text] : []
  if (ts.isConditionalExpression(expression)) return [...codesOf(expression.whenTrue), ...codesOf(expression.whenFalse)]
  if (ts.isParenthesizedExpression(expression)) return codesOf(expression.expression)
  return []
}

/** The text as a reader will see it, with `‹name›` for what is only known at run time. */
function textOf(expression: ts.Expression): string {
  if (ts.isStringLiteralLike(expression)) return expression.text
  if (ts.isParenthesizedExpression(expression)) return textOf(expression.expression)
  if (ts.isIdentifier(expression) && expression.text === 'undefined') return ''
  if (ts.isConditionalExpression(expression)) {
    const [yes, no] = [textOf(expression.whenTrue), textOf(expression.whenFalse)].map((part) => part.trim())
    return [yes, no].filter((part) => part !== undefined && part !== '').join(' / ')
  }
  if (ts.isTemplateExpression(expression)) {
    return expression.templateSpans.reduce(
      (text, span) => `${text}${textOf(span.expression)}${span.literal.text}`,
      expression.head.text,
    )
  }
  if (ts.isBinaryExpression(expression) && expression.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    return `${textOf(expression.left)}${textOf(expression.right)}`
  }
  return `‹${lastName(expression)}›`
}

function lastName(expression: ts.Expression): string {
  if (ts.isIdentifier(expression)) return expression.text
  if (ts.isPropertyAccessExpression(expression)) return expression.name.text
  if (ts.isCallExpression(expression) || ts.isNonNullExpression(expression)) return lastName(expression.expression)
  if (ts.isBinaryExpression(expression)) return lastName(expression.left)
  return '…'
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
