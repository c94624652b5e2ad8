import Foundation

extension Plot {
  /// Loss and, of samples with classes, accuracy by epoch, on training and on validation data.
  ///
  /// - Throws: `EvaluationError` without epochs.
  public static func training(_ history: [EpochRecord]) throws -> Plot {
    guard !history.isEmpty else { throw EvaluationError(message: "there are no epochs to plot") }
    let epochs = Axis(history.map { Double($0.epoch) }, label: "epoch", ticks: 8, whole: true)
    func lines(_ train: (EpochRecord) -> Double?, _ validation: KeyPath<EpochRecord, Double?>, scale: Double) -> [LineChart.Series] {
      let held = history.compactMap { record in record[keyPath: validation].map { (x: Double(record.epoch), y: $0 * scale) } }
      let trained = history.compactMap { record in train(record).map { (x: Double(record.epoch), y: $0 * scale) } }
      let own = LineChart.Series(name: "training", points: trained, color: LineChart.palette[0])
      return [own] + (held.isEmpty ? [] : [LineChart.Series(name: "validation", points: held, color: LineChart.palette[1], isDashed: true)])
    }
    let losses = lines({ $0.trainLoss }, \.validationLoss, scale: 1), hits = lines({ $0.trainTop1 }, \.validationTop1, scale: 100)
    func values(_ series: [LineChart.Series]) -> [Double] { series.flatMap { $0.points.map(\.y) } }
    let hasClasses = history.contains { $0.trainTop1 != nil }
    let last = history.map(\.epoch).max() ?? 0
    var document = SVGDocument(
      width: hasClasses ? 980 : 490, height: 400, title: "Training",
      description: "Loss\(hasClasses ? " and accuracy" : "") by epoch, up to epoch \(last), on training"
        + (history.contains { $0.validationLoss != nil } ? " and validation" : "") + " data.")
    LineChart(title: "Loss", x: epochs, y: Axis(values(losses), label: "mean loss a sample"), series: losses)
      .draw(into: &document, left: 0, top: 8, width: 490, height: 388)
    guard hasClasses else { return Plot(document) }
    LineChart(title: "Accuracy", x: epochs, y: Axis(values(hits), label: "top-1 (%)", bounds: 0...100), series: hits)
      .draw(into: &document, left: 490, top: 8, width: 490, height: 388)
    return Plot(document)
  }

  /// The loss against a learning rate that grows from step to step, on a logarithmic axis, with the suggested rate.
  ///
  /// - Throws: `EvaluationError` without points.
  public static func learningRate(_ finding: LearningRateFinding) throws -> Plot {
    guard let first = finding.points.first, let last = finding.points.last else { throw EvaluationError(message: "there are no points to plot") }
    // Powers of ten around what was tried.
    let powers = Int(log10(first.learningRate).rounded(.down))...Int(log10(last.learningRate).rounded(.up))
    let x = Axis(logarithmic: powers.map { (pow(10, Double($0)), "1e\($0)") }, label: "learning rate")
    // One wild last step would flatten everything else.
    let greatest = finding.points.map(\.smoothedLoss).max() ?? 1
    let y = Axis(finding.points.flatMap { [min($0.loss, greatest), $0.smoothedLoss] }, label: "mean loss a sample")
    var series = [
      LineChart.Series(
        name: "each step", points: finding.points.map { ($0.learningRate, min($0.loss, y.high)) }, color: LineChart.palette[5]),
      LineChart.Series(name: "smoothed", points: finding.points.map { ($0.learningRate, $0.smoothedLoss) }, color: LineChart.palette[0]),
    ]
    if let rate = finding.suggestion {
      series.append(
        LineChart.Series(
          name: "suggested: " + String(format: "%.1e", rate), points: [(rate, y.low), (rate, y.high)], color: LineChart.palette[1], isDashed: true))
    }
    let range = String(format: "%.1e to %.1e", first.learningRate, last.learningRate)
    var document = SVGDocument(
      width: 640, height: 420, title: "Learning rates",
      description: "The loss at \(finding.points.count) learning rates from \(range); "
        + (finding.suggestion.map { String(format: "%.1e is suggested.", $0) } ?? "none is suggested."))
    LineChart(title: "Learning rates", x: x, y: y, series: series).draw(into: &document, left: 0, top: 8, width: 640, height: 408)
    return Plot(document)
  }

  /// Accuracy against the number of labelled samples a class: the mean over several draws, and its 95 % interval.
  ///
  /// - Throws: `EvaluationError` without points.
  public static func learningCurve(_ points: [LearningCurve.Point], title: String) throws -> Plot {
    guard !points.isEmpty else { throw EvaluationError(message: "there are no points to plot") }
    let places = points.map(\.meanSamplesPerClass)
    let x = Axis(
      logarithmic: zip(places, points).map { ($0, $1.shots.map(String.init) ?? "all (\(Axis.text($0, step: $0 == $0.rounded() ? 1 : 0.1)))") },
      label: "labelled samples a class")
    let y = Axis(
      points.flatMap { [max(0, $0.top1.low), min(1, $0.top1.high)].map { $0 * 100 } }, label: "top-1 on test samples (%)", bounds: 0...100)
    let curve = LineChart.Series(
      name: "mean, with its 95 % interval", points: zip(places, points).map { ($0, $1.top1.value * 100) },
      band: zip(places, points).map { ($0, $1.top1.low * 100, $1.top1.high * 100) }, color: LineChart.palette[0], hasMarks: true)
    var document = SVGDocument(
      width: 640, height: 420, title: title,
      description: points.map { "\($0.shots.map(String.init) ?? "all") a class: " + Axis.text($0.top1.value * 100, step: 0.1) + " %" }
        .joined(separator: ", ") + " of the test samples right.")
    LineChart(title: title, x: x, y: y, series: [curve]).draw(into: &document, left: 0, top: 8, width: 640, height: 408)
    return Plot(document)
  }
}
