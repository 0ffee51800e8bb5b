/** A line of a plot. */
export interface Series {
  name: string
  points: readonly (readonly [x: number, y: number])[]
}

export interface PlotParameters {
  title: string
  xLabel: string
  yLabel: string
  series: readonly Series[]
  logX?: boolean
  logY?: boolean
}

const WIDTH = 760
const HEIGHT = 400
const MARGIN = { left: 70, right: 210, top: 40, bottom: 50 }
/** Distinct also without colour vision (Okabe and Ito). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00']

/** A line plot as SVG text: axes with ticks, one line for each series, a legend. Deterministic. */
export function plot({ title, xLabel, yLabel, series, logX = false, logY = false }: PlotParameters): string {
  const all = series.flatMap(({ points }) => points)
  const x = axis({ values: all.map(([value]) => value), log: logX, from: MARGIN.left, to: WIDTH - MARGIN.right })
  const y = axis({ values: all.map(([, value]) => value), log: logY, from: HEIGHT - MARGIN.bottom, to: MARGIN.top })
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text({ x: MARGIN.left, y: 22, content: title, size: 15 }),
  ]
  for (const tick of x.ticks) {
    const at = x.place(tick)
    parts.push(line(at, MARGIN.top, at, HEIGHT - MARGIN.bottom, '#e0e0e0'))
    parts.push(text({ x: at, y: HEIGHT - MARGIN.bottom + 18, content: label(tick), anchor: 'middle' }))
  }
  for (const tick of y.ticks) {
    const at = y.place(tick)
    parts.push(line(MARGIN.left, at, WIDTH - MARGIN.right, at, '#e0e0e0'))
    parts.push(text({ x: MARGIN.left - 8, y: at + 4, content: label(tick), anchor: 'end' }))
  }
  parts.push(text({ x: (MARGIN.left + WIDTH - MARGIN.right) / 2, y: HEIGHT - 12, content: xLabel, anchor: 'middle' }))
  const middle = (MARGIN.top + HEIGHT - MARGIN.bottom) / 2
  parts.push(
    `<g transform="rotate(-90 16 ${middle})">${text({ x: 16, y: middle, content: yLabel, anchor: 'middle' })}</g>`,
  )
  series.forEach(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length] ?? 'black'
    const path = points.map(([px, py]) => `${x.place(px).toFixed(1)},${y.place(py).toFixed(1)}`).join(' ')
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`)
    const top = MARGIN.top + 18 * i
    parts.push(line(WIDTH - MARGIN.right + 14, top + 6, WIDTH - MARGIN.right + 34, top + 6, colour, 2))
    parts.push(text({ x: WIDTH - MARGIN.right + 40, y: top + 10, content: name }))
  })
  return `${[...parts, '</svg>'].join('\n')}\n`
}

interface Axis {
  ticks: number[]
  place(value: number): number
}

function axis({ values, log, from, to }: { values: number[]; log: boolean; from: number; to: number }): Axis {
  const scale = log ? Math.log10 : (value: number) => value
  const low = log ? Math.min(...values) : Math.min(0, ...values)
  const high = Math.max(...values)
  const span = scale(high) - scale(low) || 1
  return {
    ticks: log ? powersBetween(low, high) : stepsBetween(low, high),
    place: (value) => from + ((scale(value) - scale(low)) / span) * (to - from),
  }
}

function powersBetween(low: number, high: number): number[] {
  const ticks: number[] = []
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++) ticks.push(10 ** power)
  return ticks
}

function stepsBetween(low: number, high: number): number[] {
  const rough = (high - low) / 5
  const magnitude = 10 ** Math.floor(Math.log10(rough))
  const step = magnitude * ([1, 2, 5, 10].find((factor) => factor * magnitude >= rough) ?? 10)
  const ticks: number[] = []
  for (let tick = Math.ceil(low / step) * step; tick <= high * (1 + 1e-9); tick += step) ticks.push(tick)
  return ticks
}

function label(value: number): string {
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(0)
  return String(Number(value.toPrecision(6)))
}

function text({
  x,
  y,
  content,
  anchor = 'start',
  size = 12,
}: {
  x: number
  y: number
  content: string
  anchor?: string
  size?: number
}): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-size="${size}">${content}</text>`
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  const ends = [x1, y1, x2, y2].map((value) => value.toFixed(1))
  return `<line x1="${ends[0]}" y1="${ends[1]}" x2="${ends[2]}" y2="${ends[3]}" stroke="${colour}" stroke-width="${width}"/>`
}
