import type { CurvePoint } from '../store/task-store.ts'

const BLOCKS = '▁▂▃▄▅▆▇█'

/** A loss curve as one line of text: the loss now, and its course in blocks, each the mean of a stretch of steps. */
export function curveText(points: readonly CurvePoint[], { width = 40 }: { width?: number } = {}): string {
  const last = points.at(-1)
  if (last === undefined) return ''
  const held = points.findLast(({ heldOutLoss }) => heldOutLoss !== undefined)?.heldOutLoss
  const columns = Math.min(width, points.length)
  const means = Array.from({ length: columns }, (_, column) => {
    const from = Math.floor((column * points.length) / columns)
    const to = Math.floor(((column + 1) * points.length) / columns)
    const part = points.slice(from, to)
    return part.reduce((sum, { loss }) => sum + loss, 0) / part.length
  })
  const [low, high] = [Math.min(...means), Math.max(...means)]
  const bar = means.map((mean) => BLOCKS[high === low ? 3 : Math.round((7 * (mean - low)) / (high - low))]).join('')
  const heldText = held === undefined ? '' : `, held out ${held.toFixed(4)}`
  return `step ${last.step}  loss ${last.loss.toFixed(4)}${heldText}  ${bar}`
}
