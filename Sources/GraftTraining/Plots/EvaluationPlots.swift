import Foundation

extension Plot {
  /// The confusion matrix: a row a true class, a column a predicted one, darker for a larger share of the row. Where names
  /// have no room, rows and columns have the numbers that classes have in `Evaluation.table`.
  public static func confusion(_ evaluation: Evaluation) -> Plot {
    let names = evaluation.classes.map { DisplayWidth.truncated(DisplayWidth.printable($0.label), to: 24) }
    let count = max(1, names.count)
    let predictions = evaluation.predictions, largest = predictions.joined().map(\.count).max() ?? 0
    // Numbers have to fit their cells; many classes are shown by colour alone.
    let cell = count <= 30 ? max(26, SVGDocument.width(of: "\(largest)", size: 11) + 8) : max(3, min(20, 900 / Double(count)))
    let showsNumbers = count <= 30, showsNames = cell >= 12
    let nameWidth = (showsNames ? names : ["\(count)"]).map { SVGDocument.width(of: $0, size: 11) }.max() ?? 0
    let (left, top) = (nameWidth + 44, 64.0), side = cell * Double(count)
    let bottom = top + side + nameWidth + 20
    var document = SVGDocument(
      width: max(left + side + 24, 420), height: bottom + 62, title: "Confusion matrix",
      description: "A row for each of \(count) true classes and a column for each predicted one, darker for a larger share of the row. "
        + "\(percent(evaluation.top1)) of \(evaluation.samples) samples are on the diagonal.")
    document.text("Confusion matrix", document.width / 2, 26, size: 15, anchor: .middle, bold: true)
    let numbers = showsNames ? "" : "; numbers are those of the table of classes"
    document.text("rows: true class, columns: predicted class\(numbers)", document.width / 2, 46, size: 11, anchor: .middle)
    for (row, own) in predictions.enumerated() {
      let total = max(1, own.reduce(0) { $0 + $1.count })
      // Cells of zeros are drawn where they make a grid.
      var cells = own
      if showsNames {
        cells = (0..<count).map { (predicted: $0, count: 0) }
        for cell in own { cells[cell.predicted].count = cell.count }
      }
      for (column, value) in cells {
        let share = Double(value) / Double(total), x = left + Double(column) * cell, y = top + Double(row) * cell
        let shade = Shade(share)
        document.rectangle(x, y, cell, cell, fill: shade.text, stroke: showsNames ? "#ffffff" : nil)
        if showsNumbers, value > 0 {
          document.text("\(value)", x + cell / 2, y + cell / 2 + 4, size: 11, anchor: .middle, fill: shade.ink.text)
        }
      }
      guard showsNames else { continue }
      document.text(names[row], left - 8, top + (Double(row) + 0.5) * cell + 4, size: 11, anchor: .end)
      document.text(names[row], left + (Double(row) + 0.5) * cell + 4, top + side + 8, size: 11, anchor: .end, turned: -90)
    }
    document.rectangle(left, top, side, side, fill: "none", stroke: "#666666")
    if !showsNames {
      let step = Int(Axis.niceStep(44 / cell))
      for number in [1] + stride(from: step, through: count, by: step) where number == 1 || step > 1 {
        let place = (Double(number) - 0.5) * cell
        document.line(left - 4, top + place, left, top + place, stroke: "#666666")
        document.text("\(number)", left - 8, top + place + 4, size: 11, anchor: .end)
        document.line(left + place, top + side, left + place, top + side + 4, stroke: "#666666")
        document.text("\(number)", left + place, top + side + 17, size: 11, anchor: .middle)
      }
    }
    document.text("true class", 18, top + side / 2, anchor: .middle, turned: -90)
    document.text("predicted class", left + side / 2, bottom + 4, anchor: .middle)
    let steps = 30, length = 240.0, bar = length / Double(steps), start = max(16, min(left + side / 2, document.width - 140) - length / 2)
    for step in 0..<steps {
      document.rectangle(start + Double(step) * bar, bottom + 22, bar + 0.5, 10, fill: Shade(Double(step) / Double(steps - 1)).text)
    }
    document.text("0", start, bottom + 46, size: 11, anchor: .middle)
    document.text("share of the true class (%)", start + length / 2, bottom + 46, size: 11, anchor: .middle)
    document.text("100", start + length, bottom + 46, size: 11, anchor: .middle)
    return Plot(document)
  }

  private struct Shade {
    /// Red, green and blue, 0 to 255.
    let channels: [Int]

    /// From almost white to dark blue.
    init(_ share: Double) {
      let ends = [(245.0, 8.0), (248.0, 64.0), (252.0, 129.0)], share = max(0, min(1, share)).squareRoot()
      channels = ends.map { from, to in Int((from + (to - from) * share).rounded()) }
    }

    private init(gray: Int) { channels = [gray, gray, gray] }

    /// Of white and almost black the one with more contrast to it.
    var ink: Shade { [Shade(gray: 255), Shade(gray: 34)].max { contrast($0) < contrast($1) }! }

    /// Source: WCAG 2.2, "contrast ratio" and "relative luminance".
    private func contrast(_ other: Shade) -> Double {
      let (light, dark) = (max(luminance, other.luminance), min(luminance, other.luminance))
      return (light + 0.05) / (dark + 0.05)
    }

    private var luminance: Double {
      zip([0.2126, 0.7152, 0.0722], channels).reduce(0) { sum, channel in
        let share = Double(channel.1) / 255
        return sum + channel.0 * (share <= 0.04045 ? share / 12.92 : pow((share + 0.055) / 1.055, 2.4))
      }
    }

    /// "#rrggbb"
    var text: String { "#" + channels.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
  }

  /// Accuracy against confidence in bins, with the line where they agree, and how many samples each bin has.
  public static func reliability(_ evaluation: Evaluation) -> Plot {
    let (width, left, right, top, middle, bottom) = (520.0, 66.0, 496.0, 82.0, 402.0, 520.0)
    var document = SVGDocument(
      width: width, height: 576, title: "Reliability",
      description: "Accuracy against confidence of \(evaluation.samples) samples in \(evaluation.reliability.bins.count) bins. "
        + "The expected calibration error is \(percent(evaluation.reliability.error)).")
    document.text("Reliability", width / 2, 24, size: 15, anchor: .middle, bold: true)
    let before = evaluation.temperature == 1 ? "" : ", \(percent(evaluation.uncalibratedReliability.error)) without the temperature"
    document.text(
      "expected calibration error \(percent(evaluation.reliability.error))\(before)", width / 2, 44, size: 11, anchor: .middle)
    func x(_ share: Double) -> Double { left + share * (right - left) }
    func y(_ share: Double) -> Double { middle - share * (middle - top) }
    for tick in stride(from: 0.0, through: 1, by: 0.2) {
      document.line(left, y(tick), right, y(tick), stroke: "#e3e3e3")
      document.text(Axis.text(tick * 100, step: 20), left - 6, y(tick) + 4, size: 11, anchor: .end)
      document.line(x(tick), bottom, x(tick), bottom + 4, stroke: "#666666")
      document.text(Axis.text(tick * 100, step: 20), x(tick), bottom + 17, size: 11, anchor: .middle)
    }
    let largest = Double(max(1, evaluation.reliability.bins.map(\.samples).max() ?? 1))
    for bin in evaluation.reliability.bins where bin.samples > 0 {
      let (begin, end) = (x(bin.low) + 1, x(bin.high) - 1)
      document.rectangle(begin, y(bin.accuracy), end - begin, middle - y(bin.accuracy), fill: LineChart.palette[0], opacity: 0.8)
      document.line(begin, y(bin.confidence), end, y(bin.confidence), stroke: LineChart.palette[1], width: 3)
      let tall = Double(bin.samples) / largest * (bottom - middle - 32)
      document.rectangle(begin, bottom - tall, end - begin, tall, fill: "#999999")
    }
    document.line(x(0), y(0), x(1), y(1), stroke: "#333333", dashed: true)
    for edge in [middle, bottom] { document.line(left, edge, right, edge, stroke: "#666666") }
    document.line(left, top, left, middle, stroke: "#666666")
    document.line(left, middle + 24, left, bottom, stroke: "#666666")
    document.text("\(Int(largest))", left - 6, middle + 36, size: 11, anchor: .end)
    document.text("0", left - 6, bottom + 4, size: 11, anchor: .end)
    document.rectangle(left, 58, 12, 12, fill: LineChart.palette[0], opacity: 0.8)
    document.text("accuracy", left + 18, 68, size: 11)
    document.line(left + 92, 64, left + 112, 64, stroke: LineChart.palette[1], width: 3)
    document.text("mean confidence", left + 118, 68, size: 11)
    document.line(left + 236, 64, left + 262, 64, stroke: "#333333", dashed: true)
    document.text("where they agree", left + 268, 68, size: 11)
    document.text("accuracy (%)", 18, (top + middle) / 2, anchor: .middle, turned: -90)
    document.text("samples", 18, (middle + 24 + bottom) / 2, anchor: .middle, turned: -90)
    document.text("confidence (%)", (left + right) / 2, bottom + 38, anchor: .middle)
    return Plot(document)
  }

  private static func percent(_ share: Double) -> String { Axis.text(share * 100, step: 0.1) + " %" }
}
