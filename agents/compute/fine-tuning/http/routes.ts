import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Attestor } from '#compute/attestation/attestor.ts'
import type { Logger } from '#kit/log.ts'
import { writeArchive } from '#protocol/compute/fine-tuning/archive.ts'
import { parseSessionToken } from '#protocol/compute/session-token.ts'
import { sameAddress } from '#protocol/compute/signature.ts'
import type { Hex } from '#protocol/hex.ts'
import { FineTuningError, uploadsBusy } from '../error.ts'
import type { BaseModelEntry } from '../models.ts'
import type { TaskRow } from '../store/task-store.ts'
import type { TaskService } from '../task-service.ts'
import { privateView, publicView } from '../task-view.ts'
import { answerErrors } from './errors.ts'

export interface RoutesParameters {
  app: FastifyInstance
  service: TaskService
  attestor: Attestor
  log: Logger
}

type UserPath = { Params: { user: string } }
type TaskPath = { Params: { user: string; id: string }; Querystring: { after?: string } }

/** Rest of a multipart body beside the file. */
const MULTIPART_BYTES = 65_536
const NO_LOG = 'send a session token of the account that created the task to read its log\n'

/** All routes of a fine-tuning provider (compute.md §4.1), and what this project adds: quotes, curves, lineage. */
export function registerRoutes({ app, service, attestor, log }: RoutesParameters): void {
  const { store, models, config } = service.parts
  app.register(async (routes) => {
    answerErrors(routes, log)
    routes.addContentTypeParser('multipart/form-data', { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )

    routes.get('/v1/quote', async () => await attestor.report())
    routes.get('/v1/provider', async () => await service.describe(attestor.kind))
    routes.get('/v1/task/pending', async (_, reply) => await reply.type('text/plain').send(String(store.waiting())))
    routes.get('/v1/queue', async () => service.queue())

    routes.get('/v1/model', async () => models.entries.map(modelView))
    routes.get<{ Params: { name: string } }>('/v1/model/:name', async ({ params }) =>
      modelView(models.byName(params.name)),
    )
    routes.get<{ Params: { name: string } }>('/v1/model/desc/:name', async ({ params }, reply) => {
      const usage = new TextEncoder().encode(usageText(models.byName(params.name)))
      return await reply.type('application/zip').send(Buffer.from(writeArchive([{ name: 'README.md', data: usage }])))
    })

    let receiving = 0
    const upload = {
      bodyLimit: config.limits.datasetBytes + MULTIPART_BYTES,
      // Bodies lie in memory before anybody is identified: they are counted as they begin.
      onRequest: async (_: FastifyRequest, reply: FastifyReply) => {
        if (receiving >= config.limits.uploads) throw uploadsBusy(config.limits.uploads)
        receiving += 1
        reply.raw.once('close', () => {
          receiving -= 1
        })
      },
    }
    routes.post<UserPath>('/v1/user/:user/dataset', upload, async (request) => {
      const datasetHash = await service.receiveDataset({ user: userOf(request), form: await formOf(request) })
      return { datasetHash, message: 'the dataset was received' }
    })
    routes.post<UserPath>('/v1/user/:user/quote', async (request) => {
      requireOwner(request, service.provider)
      return await service.quote(userOf(request), request.body)
    })
    routes.post<UserPath>('/v1/user/:user/task', async (request, reply) => {
      const id = await service.create(userOf(request), request.body)
      return await reply.code(201).send({ id })
    })
    routes.get<UserPath & { Querystring: { latest?: string; order?: string } }>(
      '/v1/user/:user/task',
      async (request) => {
        const { latest, order } = request.query
        const tasks = store.tasksOf(userOf(request), { limit: latest === 'true' ? 1 : 100 })
        const views = tasks.map((task) => viewOf(request, task))
        return order === 'asc' ? views.reverse() : views
      },
    )
    routes.get<TaskPath>('/v1/user/:user/task/:id', async (request) => viewOf(request, taskOf(request)))
    routes.post<TaskPath>('/v1/user/:user/task/:id/cancel', async (request, reply) => {
      await service.cancel(taskOf(request), request.body)
      return await reply.type('text/plain').send(`task ${request.params.id} cancelled`)
    })
    routes.get<TaskPath>('/v1/user/:user/task/:id/log', async (request, reply) => {
      const task = taskOf(request)
      const isOwner = ownerOf(request)
      if (!isOwner) requirePublicProgress()
      const text = isOwner ? store.logText(task.id) : `progress: ${task.progress}\n${NO_LOG}`
      return await reply.type('text/plain; charset=utf-8').send(text)
    })
    routes.get<TaskPath>('/v1/user/:user/task/:id/curve', async (request) => {
      requireOwner(request, service.provider)
      const after = Number(request.query.after ?? 0)
      return store.curve(taskOf(request).id, { after: Number.isFinite(after) ? after : 0 })
    })
    routes.get<TaskPath>('/v1/user/:user/task/:id/lineage', async (request, reply) => {
      requireOwner(request, service.provider)
      return await reply.type('application/json').send(await service.lineage(taskOf(request)))
    })
    routes.post<TaskPath>('/v1/user/:user/task/:id/lora', async (request, reply) => {
      const { stream, sizeBytes } = await service.artefact(taskOf(request), request.body)
      const type = reply.type('application/octet-stream').header('content-length', sizeBytes)
      return await type.send(stream)
    })
  })

  function taskOf(request: FastifyRequest<TaskPath>): TaskRow {
    const task = store.task(request.params.id)
    if (task !== undefined && sameAddress(task.user, userOf(request))) return task
    throw new FineTuningError({ code: 'TASK_UNKNOWN', statusCode: 404, message: 'this user has no such task here' })
  }

  function viewOf(request: FastifyRequest<UserPath>, task: TaskRow) {
    if (!ownerOf(request)) {
      requirePublicProgress()
      return publicView(task)
    }
    const model = models.entries.find(
      ({ root, aliases }) => root === task.modelHash || aliases.includes(task.modelHash),
    )
    return privateView({ task, store, modelName: model?.name ?? '' })
  }

  /** Whether the request carries a session token of the user that the path names. */
  function ownerOf(request: FastifyRequest<UserPath>): boolean {
    if (request.headers.authorization === undefined) return false
    requireOwner(request, service.provider)
    return true
  }

  function requirePublicProgress(): void {
    if (config.publicProgress) return
    throw new FineTuningError({
      ...{ code: 'NOT_OWNER', statusCode: 401, message: 'tasks are shown to the account that created them' },
      fix: 'send Authorization: Bearer <session token> of that account',
    })
  }
}

function requireOwner(request: FastifyRequest<UserPath>, provider: Hex): void {
  const { authorization } = request.headers
  const token = parseSessionToken(authorization, { provider, nowMs: Date.now() })
  if (sameAddress(token.address, userOf(request))) return
  throw new FineTuningError({
    ...{ code: 'NOT_OWNER', statusCode: 403, message: 'the session token is of another account' },
    fix: 'use the account that created the task',
  })
}

function userOf(request: FastifyRequest<UserPath>): Hex {
  const { user } = request.params
  if (/^0x[0-9a-fA-F]{40}$/.test(user)) return user.toLowerCase() as Hex
  throw new FineTuningError({
    ...{ code: 'REQUEST_FORMAT', message: 'the path names no user', fix: 'give an address: 0x and 40 hex digits' },
    details: { field: 'user' },
  })
}

/** The platform's own parser of forms; the body is bounded by the route. */
async function formOf(request: FastifyRequest): Promise<FormData> {
  const type = request.headers['content-type'] ?? ''
  try {
    if (!(request.body instanceof Buffer)) throw new Error('it is no form')
    return await new Response(new Uint8Array(request.body), { headers: { 'content-type': type } }).formData()
  } catch (cause) {
    throw new FineTuningError({
      ...{ code: 'REQUEST_FORMAT', message: 'the body is no multipart form', cause },
      fix: 'send file, signature and timestamp as multipart/form-data',
      details: { field: 'body' },
    })
  }
}

function modelView({ name, root, description, sizeBytes, aliases, coefficientMilli }: BaseModelEntry) {
  return {
    ...{ name, hash: root, image: '', dataType: 'text', trainingScript: '', description, tokenizer: root },
    ...{ sizeBytes, aliases, coefficientMilli },
  }
}

function usageText({ name, root, description }: BaseModelEntry): string {
  return `# ${name}

${description}

Weights: ${root}

Datasets are JSON lines: {"messages": [{"role", "content"}]}, {"instruction", "input", "output"}, {"prompt", "completion"}
or {"text"}.

Settings, all five: neftune_noise_alpha (0 to 10; not applied here), num_train_epochs (1 to 10),
per_device_train_batch_size (1 to 4), learning_rate (0.00001 to 0.001, no exponent), max_steps (-1 or more than 0).
`
}
