import { getAddress } from 'viem'
import type { TaskView } from '#protocol/compute/fine-tuning/task.ts'
import type { TaskRow, TaskStore } from './store/task-store.ts'

/** Tokens per second assumed before anything was trained. */
const FIRST_SPEED = 500

/** A task for its user. */
export function privateView({
  task,
  store,
  modelName,
}: {
  task: TaskRow
  store: TaskStore
  modelName: string
}): TaskView {
  const { failure, artefactRoot, lineageRoot } = task
  const waits = ['Init', 'SettingUp', 'SetUp', 'Training'].includes(task.progress)
  const ahead = waits ? store.ahead(task) : []
  return {
    ...publicView(task),
    ...{ datasetHash: task.datasetHash, trainingParams: task.params, fee: String(task.feeWei) },
    ...{ nonce: String(task.nonce), modelType: modelName, preTrainedModelHash: task.modelHash },
    ...(failure === undefined ? {} : { failure }),
    ...(waits
      ? { queuePosition: ahead.length, estimatedSeconds: estimateSeconds({ tasks: [...ahead, task], store }) }
      : {}),
    ...(artefactRoot === undefined ? {} : { artefactRoot }),
    ...(lineageRoot === undefined ? {} : { lineageRoot }),
  }
}

/** What anybody may know of a task: the chain tells as much once it is delivered. */
export function publicView(task: TaskRow): TaskView {
  const { id, user, createdAtMs, updatedAtMs, progress, deliverIndex, deliveredAtMs } = task
  return {
    ...{ id, createdAt: new Date(createdAtMs).toISOString(), updatedAt: new Date(updatedAtMs).toISOString() },
    ...{ userAddress: getAddress(user), datasetHash: '', trainingParams: '', preTrainedModelHash: '0x' },
    ...{ fee: '0', nonce: '0', progress, modelType: '' },
    deliverIndex: String(deliverIndex ?? 0),
    deliverTime: String(Math.floor((deliveredAtMs ?? 0) / 1000)),
  }
}

/** Seconds until the last of some tasks is trained, by the speed measured last. */
export function estimateSeconds(parameters: {
  tasks: readonly Pick<TaskRow, 'trainedTokens' | 'step' | 'steps'>[]
  store: TaskStore
}): number {
  const { tasks, store } = parameters
  const speed = store.figure('tokensPerSecond') ?? FIRST_SPEED
  let seconds = 0
  for (const { trainedTokens, step, steps } of tasks) {
    const left = steps > 0 ? 1 - step / steps : 1
    seconds += (trainedTokens * left) / speed
  }
  return Math.ceil(seconds)
}
