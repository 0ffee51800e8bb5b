import { silentLog } from '#kit/log.ts'
import { nodeConfigSchema, startNode } from '#storage/node/main.ts'

/** A node in its own process, for tests that kill it: the configuration comes as JSON, the address goes out as JSON. */
const config = nodeConfigSchema.parse(JSON.parse(process.argv[2] ?? '{}'))
const node = await startNode(config, { log: silentLog() })
process.stdout.write(`${JSON.stringify({ url: node.url, adminUrl: node.adminUrl })}\n`)
process.on('SIGTERM', () => {
  void node.close().then(() => process.exit(0))
})
