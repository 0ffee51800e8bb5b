import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** What `weightless --help` and the help of every command print, as Markdown. */
export async function cliHelpMarkdown(root: string): Promise<string> {
  const main = await helpOf({ root, command: [] })
  const names = commandNames(main)
  const parts = [`\`\`\`text\n${main}\n\`\`\``]
  for (const name of names) parts.push(...(await commandParts({ root, command: [name], level: '##' })))
  return parts.join('\n\n')
}

async function commandParts({
  root,
  command,
  level,
}: {
  root: string
  command: readonly string[]
  level: string
}): Promise<string[]> {
  const help = await helpOf({ root, command })
  const parts = [`${level} weightless ${command.join(' ')}`, `\`\`\`text\n${help}\n\`\`\``]
  for (const name of commandNames(help)) {
    parts.push(...(await commandParts({ root, command: [...command, name], level: `${level}#` })))
  }
  return parts
}

/** Names under `Commands:`; `help` is everywhere and says nothing. */
function commandNames(help: string): string[] {
  const list = /(?:^|\n)Commands:\n([\s\S]*?)(?:\n\n|$)/.exec(help)?.[1] ?? ''
  return [...list.matchAll(/^ {2}([a-z][a-z0-9-]*)/gm)].map(([, name = '']) => name).filter((name) => name !== 'help')
}

async function helpOf({ root, command }: { root: string; command: readonly string[] }): Promise<string> {
  const { stdout } = await run(process.execPath, [path.join(root, 'agents/cli/main.ts'), ...command, '--help'], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1', COLUMNS: '100' },
    timeout: 60_000,
  })
  return stdout.trimEnd()
}
