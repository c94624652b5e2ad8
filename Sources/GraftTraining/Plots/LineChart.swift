/// Lines over two axes, with bands around them and a legend above.
struct LineChart {
  struct Series {
    let name: String
    let points: [(x: Double, y: Double)]
    /// An interval around each point.
    var band: [(x: Double, low: Double, high: Double)] = []
    var color: String
    var isDashed = false
    var hasMarks = false
  }

  let title: String
  let x, y: Axis
  let series: [Series]

  /// Colours that differ to the colour-blind as well (Okabe and Ito, 2008).
  static let palette = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
  private static let grid = "#e3e3e3", frame = "#666666"

  /// Draws into a rectangle of the document: title, legend, axes and all.
  func draw(into document: inout SVGDocument, left: Double, top: Double, width: Double, height: Double) {
    let tickWidth = y.ticks.map { SVGDocument.width(of: $0.text, size: 11) }.max() ?? 0
    let lastWidth = x.ticks.last.map { SVGDocument.width(of: $0.text, size: 11) } ?? 0
    let inner = (left: left + 34 + tickWidth, top: top + 54, right: left + width - max(18, lastWidth / 2 + 8), bottom: top + height - 48)
    func position(_ px: Double, _ py: Double) -> (x: Double, y: Double) {
      (inner.left + x.place(px) * (inner.right - inner.left), inner.bottom - y.place(py) * (inner.bottom - inner.top))
    }
    document.text(title, left + width / 2, top + 20, size: 15, anchor: .middle, bold: true)
    drawLegend(&document, left: inner.left, right: inner.right, baseline: top + 42)
    for tick in y.ticks {
      let place = position(x.low, tick.value).y
      document.line(inner.left, place, inner.right, place, stroke: Self.grid)
      document.text(tick.text, inner.left - 6, place + 4, size: 11, anchor: .end)
    }
    // A tick whose text would run into the one before is left without; the last one has its text in any case.
    var free = -Double.infinity
    let lastBegin = x.ticks.last.map { position($0.value, y.low).x - lastWidth / 2 - 6 } ?? .infinity
    for (index, tick) in x.ticks.enumerated() {
      let place = position(tick.value, y.low).x, half = SVGDocument.width(of: tick.text, size: 11) / 2
      document.line(place, inner.bottom, place, inner.bottom + 4, stroke: Self.frame)
      guard place - half >= free, index + 1 == x.ticks.count || place + half <= lastBegin else { continue }
      document.text(tick.text, place, inner.bottom + 17, size: 11, anchor: .middle)
      free = place + half + 6
    }
    for series in series where !series.band.isEmpty {
      let band = series.band.filter { $0.low.isFinite && $0.high.isFinite }
      let limits = y.low...y.high
      document.polygon(
        band.map { position($0.x, min(max($0.high, limits.lowerBound), limits.upperBound)) }
          + band.reversed().map { position($0.x, min(max($0.low, limits.lowerBound), limits.upperBound)) }, fill: series.color, opacity: 0.18)
    }
    for series in series {
      let points = series.points.filter { $0.x.isFinite && $0.y.isFinite }.map { position($0.x, $0.y) }
      document.polyline(points, stroke: series.color, dashed: series.isDashed)
      if series.hasMarks || points.count < 2 { for point in points { document.circle(point.x, point.y, radius: 3.5, fill: series.color) } }
    }
    document.line(inner.left, inner.top, inner.left, inner.bottom, stroke: Self.frame)
    document.line(inner.left, inner.bottom, inner.right, inner.bottom, stroke: Self.frame)
    document.text(x.label, (inner.left + inner.right) / 2, inner.bottom + 37, anchor: .middle)
    document.text(y.label, left + 16, (inner.top + inner.bottom) / 2, anchor: .middle, turned: -90)
  }

  private func drawLegend(_ document: inout SVGDocument, left: Double, right: Double, baseline: Double) {
    guard series.count > 1 || series.contains(where: { !$0.band.isEmpty }) else { return }
    var place = left
    for series in series {
      let width = 34 + SVGDocument.width(of: series.name, size: 11) + 12
      guard place + width <= right + 12 else { return }
      document.polyline([(place, baseline - 4), (place + 26, baseline - 4)], stroke: series.color, dashed: series.isDashed)
      document.text(series.name, place + 32, baseline, size: 11)
      place += width
    }
  }
}
