import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { bodyStream, startPieces } from '../segment-stream.ts'
import { openDirectoryPath } from './directory-path.ts'
import { sendSuccess } from './envelope.ts'
import { attachment, mediaType } from './file-headers.ts'
import type { GatewayParameters } from './gateway.ts'
import { type GatewayFile, openFile, readRange } from './gateway-file.ts'
import { notModified, parseRange, rangeApplies } from './range.ts'
import { readCid, readFileQuery, readPath } from './requests.ts'

/** `GET|HEAD /file` and `/file/{cid}/{path…}`: verified, streamed, with ranges. */
export function registerDownloadRoutes(scope: FastifyInstance, parameters: GatewayParameters): void {
  const { locator, settings } = parameters
  const maxFileBytes = settings.maxFileBytes

  scope.route({
    method: ['GET', 'HEAD'],
    url: '/file',
    handler: async (request, reply) => {
      const { id, name } = readFileQuery(request.query)
      const content = await openFile({ locator, id, maxFileBytes })
      const fallback = content.parts[0]?.file.root ?? 'file'
      return await sendFile({ request, reply, content, name: name || fallback, parameters })
    },
  })

  scope.route<{ Params: { cid: string; '*': string } }>({
    method: ['GET', 'HEAD'],
    url: '/file/:cid/*',
    handler: async (request, reply) => {
      const id = readCid(request.params.cid)
      const names = readPath(request.params['*'])
      const found = await openDirectoryPath({ id, names, maxFileBytes, parameters })
      if (found.kind === 'listing') return sendSuccess({ reply, data: found.data })
      return await sendFile({ request, reply, content: found.content, name: found.name, parameters })
    },
  })
}

interface SendFileParameters {
  request: FastifyRequest
  reply: FastifyReply
  content: GatewayFile
  name: string
  parameters: GatewayParameters
}

async function sendFile({ request, reply, content, name, parameters }: SendFileParameters): Promise<FastifyReply> {
  const { etag, sizeBytes } = content
  reply
    .header('accept-ranges', 'bytes')
    .header('etag', etag)
    .header('content-disposition', attachment(name))
    .header('x-content-type-options', 'nosniff')
    // What strangers stored must not act as a page of this origin, even when a browser opens it.
    .header('content-security-policy', "sandbox; default-src 'none'")
    // Content under a root never changes; under a sequence number or a path it is named by its tag.
    .header('cache-control', 'public, max-age=0, must-revalidate')
  if (notModified({ ifNoneMatch: request.headers['if-none-match'], etag })) return reply.code(304).send()

  const ifRange = request.headers['if-range']
  const applies = rangeApplies({ ifRange: typeof ifRange === 'string' ? ifRange : undefined, etag })
  const range = parseRange({ header: applies ? request.headers.range : undefined, sizeBytes })
  if (range.kind === 'unsatisfiable') {
    const data = `the file has ${sizeBytes} bytes`
    return reply
      .code(416)
      .header('content-range', `bytes */${sizeBytes}`)
      .removeHeader('content-disposition')
      .type('application/json; charset=utf-8')
      .send({ code: 1, message: 'Invalid parameter', data })
  }
  const { start, end } = range.kind === 'part' ? range : { start: 0, end: sizeBytes }
  if (range.kind === 'part') reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${sizeBytes}`)
  reply.type(mediaType(name)).header('content-length', end - start)
  if (request.method === 'HEAD' || start === end) return reply.send()
  return await sendBytes({ reply, content, start, end, parameters })
}

async function sendBytes({
  reply,
  content,
  start,
  end,
  parameters: { locator, reader, downloads, settings, metrics },
}: { start: number; end: number } & Omit<SendFileParameters, 'request' | 'name'>): Promise<FastifyReply> {
  const controller = new AbortController()
  const gone = (): void => controller.abort(new Error('the client went away'))
  reply.raw.once('close', gone)
  const release = await downloads.acquire({ signal: controller.signal })
  controller.signal.addEventListener('abort', release, { once: true })
  if (controller.signal.aborted) release()
  try {
    const { readAhead, stallMs } = settings
    const { signal } = controller
    // The first piece comes before the headers, so that a file that cannot be read gets a true status.
    const pieces = await startPieces(readRange({ reader, content, start, end, readAhead, signal }))
    const onBytes = (bytes: number): void => metrics.gatewayBytes.inc(bytes)
    return reply.send(bodyStream({ pieces, controller, stallMs, onBytes }))
  } catch (error) {
    controller.abort(error)
    // A reorganisation may have moved the file since it was located: the next request looks again.
    for (const { file } of content.parts) locator.forget(file.root)
    for (const header of ['content-length', 'content-range', 'etag', 'content-disposition']) reply.removeHeader(header)
    throw error
  }
}
