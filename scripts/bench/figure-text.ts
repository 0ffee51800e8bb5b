import { WeightlessError } from '#protocol/error.ts'
import type { BenchFigure } from './context.ts'

/** A bench reported something that cannot be followed over time (code `BENCH_FIGURE`). */
export class BenchFigureError extends WeightlessError {}

const namePattern = /^[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*$/

/** Refuses figures with a malformed name, an empty unit or a value that is not finite. */
export function checkFigure(figure: BenchFigure): void {
  const problem = !namePattern.test(figure.name)
    ? 'its name is not <bench>.<figure> in lower case'
    : figure.unit === ''
      ? 'it has no unit'
      : [figure.value, figure.peerValue ?? 0, figure.ratio ?? 0].every(Number.isFinite)
        ? undefined
        : 'a number in it is not finite'
  if (problem !== undefined) {
    throw new BenchFigureError({
      code: 'BENCH_FIGURE',
      message: `the figure ${JSON.stringify(figure.name)} cannot be reported: ${problem}`,
      details: { figure },
    })
  }
}

/** One JSON object on one line, with the keys in the order the documentation gives. */
export function figureJson({ name, value, unit, peer, peerValue, ratio, detail }: BenchFigure): string {
  return JSON.stringify({ name, value, unit, peer, peerValue, ratio, detail })
}

/** One line for people: name, value with unit, and the comparison where there is a peer. */
export function figureLine(figure: BenchFigure): string {
  const main = `${figure.name.padEnd(28)} ${formatNumber(figure.value).padStart(12)} ${figure.unit}`
  const peer =
    figure.peer === undefined
      ? ''
      : `  ${figure.peer}${figure.peerValue === undefined ? '' : `: ${formatNumber(figure.peerValue)} ${figure.unit}`}`
  const ratio = figure.ratio === undefined ? '' : `  ratio ${formatNumber(figure.ratio)}`
  return `${main}${peer}${ratio}`
}

/** Four significant digits below 1000, whole numbers with thousands separators above. */
export function formatNumber(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(4)))
}
