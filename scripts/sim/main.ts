import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { reportFiles } from './report.ts'

const DOCS = new URL('../../docs/', import.meta.url)

/** `npm run sim` writes the report; with `--check` it only says whether the committed one is current. */
async function main(check: boolean): Promise<void> {
  for (const [name, contents] of Object.entries(reportFiles())) {
    const file = new URL(name, DOCS)
    if (check) {
      const committed = await readFile(file, 'utf8').catch(() => undefined)
      if (committed === contents) continue
      process.stderr.write(`docs/${name} is not what the simulation gives; run: npm run sim\n`)
      process.exitCode = 1
      continue
    }
    await mkdir(dirname(file.pathname), { recursive: true })
    await writeFile(file, contents)
    process.stdout.write(`docs/${name}\n`)
  }
}

await main(process.argv.includes('--check'))
