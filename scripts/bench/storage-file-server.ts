import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { pipeline } from 'node:stream/promises'

/** The peer of the download bench: one file over plain HTTP, in a process of its own. Prints its port. */
const [path = ''] = process.argv.slice(2)
const { size } = await stat(path)
const server = createServer(async (_, answer) => {
  answer.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size })
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), answer).catch(() => {})
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`${typeof address === 'object' && address !== null ? address.port : 0}\n`)
})
