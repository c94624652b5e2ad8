/// An `Evaluation` as text for a terminal.
extension Evaluation {
  /// Confusions listed where the matrix is too wide.
  static let listedConfusions = 15
  static let widestName = 32

  /// The summary, a line a class, and the confusion matrix with numbered columns; where that is wider than `columns`,
  /// the pairs confused most often instead.
  public func table(columns: Int = 100) -> String {
    [summary, classTable, classes.count < 2 ? nil : fitsMatrix(columns) ? matrix : confusions].compactMap { $0 }.joined(separator: "\n\n")
  }

  private var summary: String {
    var lines = [("samples", "\(samples)"), ("top-1", Self.decimal(top1))]
    if classes.count > 5 { lines.append(("top-5", Self.decimal(top5))) }
    lines += [
      ("macro precision", Self.decimal(macroPrecision)), ("macro recall", Self.decimal(macroRecall)), ("macro F1", Self.decimal(macroF1)),
      ("log loss", Self.decimal(logLoss)),
    ]
    lines.append(("calibration error", Self.decimal(reliability.error)))
    var notes = ["top-1": "  95 % interval \(Self.decimal(top1Interval.low)) to \(Self.decimal(top1Interval.high))"]
    if temperature != 1 {
      notes["log loss"] = "  \(Self.decimal(uncalibratedLogLoss)) without the temperature of \(Self.decimal(temperature))"
      notes["calibration error"] = "  \(Self.decimal(uncalibratedReliability.error)) without"
    }
    var text = lines.map { DisplayWidth.left($0.0, columns: 17) + DisplayWidth.right($0.1, columns: 8) + (notes[$0.0] ?? "") }
    if let abstention { text += ["", abstentionText(abstention)] }
    return text.joined(separator: "\n")
  }

  private func abstentionText(_ abstention: Abstention) -> String {
    guard let threshold = abstention.threshold else {
      return "no threshold reaches a precision of \(Self.decimal(abstention.target)) on the validation samples"
    }
    func percent(_ share: Double) -> String { "\((share * 1000).rounded() / 10) %" }
    var answered = ""
    if let test = abstention.test {
      // Of no answers no share is right.
      let right = test.coverage > 0 ? ", \(percent(test.precision)) of them right" : ""
      answered = "\(percent(test.coverage)) of these samples answered\(right); "
    }
    return "answering from a confidence of \(Self.decimal(threshold)) on: \(answered)on the \(abstention.validation.samples) validation samples, "
      + "which it was chosen on, \(percent(abstention.validation.coverage)) and \(percent(abstention.validation.precision))"
  }

  private var names: [String] {
    classes.map { DisplayWidth.truncated(DisplayWidth.printable($0.label), to: Self.widestName) }
  }

  private var numberWidth: Int { "\(classes.count)".count }
  private var nameWidth: Int { max(5, names.map { DisplayWidth.of($0) }.max() ?? 0) }

  /// "12 name", padded: the number is the matrix's column.
  private func rowTitle(_ index: Int, _ names: [String], width: Int) -> String {
    DisplayWidth.right("\(index + 1)", columns: numberWidth) + " " + DisplayWidth.left(names[index], columns: width)
  }

  private var classTable: String {
    let (names, width) = (names, nameWidth)
    let header = DisplayWidth.left("class", columns: numberWidth + 1 + width) + "  precision  recall      F1  samples"
    let rows = classes.enumerated().map { index, score in
      rowTitle(index, names, width: width) + DisplayWidth.right(Self.decimal(score.precision), columns: 11)
        + DisplayWidth.right(Self.decimal(score.recall), columns: 8) + DisplayWidth.right(Self.decimal(score.f1), columns: 8)
        + DisplayWidth.right("\(score.support)", columns: 9)
    }
    return ([header] + rows).joined(separator: "\n")
  }

  private var cellWidth: Int {
    max(numberWidth, "\(predictions.joined().map(\.count).max() ?? 0)".count) + 2
  }

  private func fitsMatrix(_ columns: Int) -> Bool { numberWidth + 1 + nameWidth + cellWidth * classes.count <= columns }

  private var matrix: String {
    let (names, width, cell) = (names, nameWidth, cellWidth)
    let header =
      DisplayWidth.left("", columns: numberWidth + 1 + width)
      + classes.indices.map { DisplayWidth.right("\($0 + 1)", columns: cell) }.joined()
    let rows = predictions.enumerated().map { index, own in
      // A dot reads better than a zero where most are.
      var row = [String](repeating: "·", count: classes.count)
      for (predicted, count) in own { row[predicted] = "\(count)" }
      return rowTitle(index, names, width: width) + row.map { DisplayWidth.right($0, columns: cell) }.joined()
    }
    return (["confusion matrix: rows are the true classes, columns the predicted ones", header] + rows).joined(separator: "\n")
  }

  private var confusions: String {
    var pairs: [(count: Int, actual: Int, predicted: Int)] = []
    for (actual, own) in predictions.enumerated() {
      for (predicted, count) in own where actual != predicted { pairs.append((count, actual, predicted)) }
    }
    guard !pairs.isEmpty else { return "no sample was confused" }
    pairs.sort { ($1.count, $0.actual, $0.predicted) < ($0.count, $1.actual, $1.predicted) }
    let (names, width) = (names, nameWidth)
    let header =
      DisplayWidth.left("true class", columns: width) + "  " + DisplayWidth.left("predicted", columns: width) + "  samples  of the class"
    let rows = pairs.prefix(Self.listedConfusions).map { pair in
      let share = "\((100 * pair.count + classes[pair.actual].support / 2) / max(1, classes[pair.actual].support)) %"
      return DisplayWidth.left(names[pair.actual], columns: width) + "  " + DisplayWidth.left(names[pair.predicted], columns: width)
        + DisplayWidth.right("\(pair.count)", columns: 9) + DisplayWidth.right(share, columns: 14)
    }
    let rest = pairs.count - rows.count
    let title = "confused most often (the matrix of \(classes.count) classes is too wide; --json has all of it)"
    return ([title, header] + rows + (rest > 0 ? ["and \(rest) more pairs"] : [])).joined(separator: "\n")
  }

  /// Four decimals, rounded to nearest, without a locale.
  static func decimal(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
    let scaled = (abs(value) * 10_000).rounded()
    let (whole, part) = (Int(scaled) / 10_000, Int(scaled) % 10_000)
    let digits = String(part)
    return "\(value < 0 && scaled > 0 ? "-" : "")\(whole)." + String(repeating: "0", count: 4 - digits.count) + digits
  }
}
