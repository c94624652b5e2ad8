import Foundation
import FoundationXML
import GraftTraining
import Testing

/// Plots are text, so what a person would trip over can be looked for: labels that overlap, points outside the frame, names that break
/// the file.
@Suite struct PlotTests {
  private struct Label {
    let text: String
    let left, right, top, bottom: Double
  }

  private func attribute(_ name: String, _ tag: Substring) -> String? {
    guard let range = tag.range(of: " \(name)=\"") else { return nil }
    return tag[range.upperBound...].split(separator: "\"", maxSplits: 1, omittingEmptySubsequences: false).first.map(String.init)
  }

  private func number(_ name: String, _ tag: Substring) throws -> Double { try #require(attribute(name, tag).flatMap(Double.init), "\(tag)") }

  /// The boxes of all labels, turned ones included, at half of a sans serif's usual widths or more.
  private func labels(_ plot: Plot) throws -> [Label] {
    try plot.source.split(separator: "\n").filter { $0.hasPrefix("<text") }.map { line in
      let text = String(line[line.index(after: try #require(line.firstIndex(of: ">")))...].dropLast("</text>".count))
      let (x, y, size) = (try number("x", line), try number("y", line), try number("font-size", line))
      let width = Double(text.count) * size * 0.5, turned = line.contains("rotate(-90")
      let anchors: [String: Double] = ["start": 0, "middle": 0.5, "end": 1]
      let before = anchors[attribute("text-anchor", line) ?? ""] ?? 0
      return turned
        ? Label(text: text, left: x - size * 0.7, right: x, top: y - width * (1 - before), bottom: y + width * before)
        : Label(text: text, left: x - width * before, right: x + width * (1 - before), top: y - size * 0.7, bottom: y)
    }
  }

  private func expectReadable(_ plot: Plot, _ comment: Comment, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let found = try labels(plot), header = try #require(plot.source.split(separator: "\n").first { $0.hasPrefix("<svg") })
    let (width, height) = (try number("width", header), try number("height", header))
    for (index, label) in found.enumerated() {
      #expect(
        label.left >= 0 && label.right <= width && label.top >= 0 && label.bottom <= height, "\(label.text) leaves the page",
        sourceLocation: sourceLocation)
      for other in found[(index + 1)...] {
        let overlaps = label.left < other.right && other.left < label.right && label.top < other.bottom && other.top < label.bottom
        #expect(!overlaps, "\(label.text) overlaps \(other.text): \(comment)", sourceLocation: sourceLocation)
      }
    }
    #expect(!plot.source.contains("nan") && !plot.source.contains("inf\""), sourceLocation: sourceLocation)
  }

  private func history(_ count: Int, validation: Bool = true, scale: Double = 1) throws -> [EpochRecord] {
    try (1...count).map { epoch in
      let loss = scale * (1 + 2 / Double(epoch))
      var fields: [String: Any] = [
        "epoch": epoch, "steps": epoch * 10, "learning_rate": 0.1, "train_loss": loss, "train_top1": 1 - 1 / Double(epoch + 1), "gradient_norm": 1,
        "seconds": 1,
      ]
      if validation { (fields["validation_loss"], fields["validation_top1"]) = (loss * 1.1, 0.5) }
      return try JSONDecoder().decode(EpochRecord.self, from: JSONSerialization.data(withJSONObject: fields))
    }
  }

  @Test(arguments: [1, 2, 7, 33, 100, 1234], [1e-5, 1, 4321])
  func trainingIsReadable(epochs: Int, scale: Double) throws {
    for validation in [true, false] {
      let plot = try Plot.training(history(epochs, validation: validation, scale: scale))
      try expectReadable(plot, "\(epochs) epochs, losses about \(scale)")
      #expect(plot.source.contains(">epoch<") && plot.source.contains(">top-1 (%)<") && plot.source.contains(">validation<") == validation)
    }
    #expect(throws: EvaluationError.self) { try Plot.training([]) }
  }

  /// Losses that hardly differ, and large ones: no two ticks of an axis say the same.
  @Test(arguments: [(0.01801, 0.01806), (1e-9, 3e-9), (1_000_001, 1_000_008), (3.2e9, 3.3e9), (-5e-6, 5e-6), (1e7, 5e8), (0.999999, 1.000001)])
  func ticksDiffer(low: Double, high: Double) throws {
    let records = try (0..<8).map { epoch in
      let loss = low + (high - low) * Double(7 - epoch) / 7
      let fields: [String: Any] = [
        "epoch": epoch + 1, "steps": 1, "learning_rate": 0.1, "train_loss": loss, "gradient_norm": 1, "seconds": 1,
      ]
      return try JSONDecoder().decode(EpochRecord.self, from: JSONSerialization.data(withJSONObject: fields))
    }
    let plot = try Plot.training(records)
    try expectReadable(plot, "\(low) to \(high)")
    let ticks = plot.source.split(separator: "\n").filter { $0.contains("text-anchor=\"end\"") }.compactMap { line in
      line.firstIndex(of: ">").map { line[$0...].dropFirst().prefix { $0 != "<" } }
    }
    #expect(ticks.count >= 3 && Set(ticks).count == ticks.count, "\(ticks)")
    for (tick, next) in zip(ticks, ticks.dropFirst()) { #expect(try #require(Double(tick)) < #require(Double(next)), "\(ticks)") }
  }

  @Test func plotsSayWhatTheyAre() throws {
    let (x, y) = syntheticSamples(rows: 120, dimension: 3, classes: 3, seed: 2)
    let data = LinearTrainingData(train: try labelled(x, y), classes: ["a", "b", "c"])
    let curve = try LearningCurve(data, test: labelled(x, y), shots: [1, nil], seeds: 2) { _ in CentroidFitting() }
    let evaluation = try evaluation(["a", "b"])
    for plot in [
      try Plot.training(history(3)), try .learningCurve(curve.points, title: "a <title>"), .confusion(evaluation), .reliability(evaluation),
    ] {
      let lines = plot.source.split(separator: "\n")
      #expect(lines[1].hasPrefix("<svg ") && lines[1].contains(" role=\"img\""))
      #expect(lines[2].hasPrefix("<title>") && lines[2].hasSuffix("</title>") && lines[3].hasPrefix("<desc>") && lines[3].hasSuffix("</desc>"))
      #expect(lines[2].count > 16 && lines[3].count > 40 && XMLParser(data: Data(plot.source.utf8)).parse(), "\(lines[2...3])")
    }
    #expect(try Plot.learningCurve(curve.points, title: "a <title>").source.contains("<title>a &lt;title&gt;</title>"))
    #expect(Plot.confusion(evaluation).source.contains("of 12 samples are on the diagonal."))
  }

  @Test(arguments: [11, 40, 100], [1e-5, 1, 4321])
  func learningRatesAreReadable(count: Int, scale: Double) throws {
    for lowest in [1e-3, nil] {
      let points: [[String: Any]] = (0..<count).map { step in
        let rate = 1e-7 * pow(1e8, Double(step) / 99), loss = scale * (2 + sin(Double(step)) / 4 + (step == 99 ? 1e6 : 0))
        return ["learning_rate": rate, "loss": loss, "smoothed_loss": scale * 2]
      }
      var fields: [String: Any] = ["points": points, "end": "loss rose"]
      if let lowest { (fields["lowest_loss_rate"], fields["suggestion"]) = (lowest, lowest / 10) }
      let finding = try JSONDecoder().decode(LearningRateFinding.self, from: JSONSerialization.data(withJSONObject: fields))
      let plot = try Plot.learningRate(finding)
      try expectReadable(plot, "\(count) steps, losses about \(scale)")
      #expect(plot.source.contains(">learning rate<") && plot.source.contains("suggested: 1.0e-04") == (lowest != nil))
    }
    let empty = try JSONDecoder().decode(LearningRateFinding.self, from: Data(#"{"points": [], "end": "not finite"}"#.utf8))
    #expect(throws: EvaluationError.self) { try Plot.learningRate(empty) }
  }

  private func evaluation(_ names: [String], perClass: Int = 6) throws -> Evaluation {
    var random = Random(5)
    var scores = try EvaluationAccumulator(classes: names, temperature: 1.3)
    for label in names.indices {
      for _ in 0..<perClass {
        try scores.add(logits: names.indices.map { Float(random.normal() + ($0 == label ? 3 : 0)) }, labels: [label])
      }
    }
    return try scores.finish()
  }

  @Test(arguments: [2, 5, 29, 45, 200])
  func evaluationsAreReadable(classes: Int) throws {
    let names = (0..<classes).map { "class number \($0)" }
    let evaluation = try evaluation(names)
    try expectReadable(Plot.confusion(evaluation), "\(classes) classes")
    try expectReadable(Plot.reliability(evaluation), "\(classes) classes")
    // Every count is there where there is room for it.
    if classes <= 30 {
      let shown = try labels(Plot.confusion(evaluation)).compactMap { Int($0.text) }.reduce(0, +)
      #expect(shown == evaluation.samples + 100)
    }
  }

  /// By their names, and of many classes by the numbers of the table.
  @Test(arguments: [30, 31, 75, 76, 300]) func cellsOfManyClassesCanBeTold(classes: Int) throws {
    let plot = Plot.confusion(try evaluation((0..<classes).map { "name\($0)" }, perClass: 2)), texts = try labels(plot).map(\.text)
    let shown = (1...classes).filter { number in texts.count { $0 == (classes > 75 ? "\(number)" : "name\(number - 1)") } >= 2 }
    if classes > 75 {
      // One that can be counted from in 44 pixels or a few more.
      #expect(shown.first == 1 && shown.count > 12 && shown.dropFirst().allSatisfy { $0 % shown[1] == 0 }, "\(shown)")
    } else {
      #expect(shown.count == classes)
    }
    #expect(texts.contains { $0.contains("numbers are those of the table") } == (classes > 75))
  }

  /// The numbers in cells have the better of two contrasts, and a sufficient one.
  @Test func numbersInCellsCanBeRead() throws {
    func luminance(_ color: Substring) throws -> Double {
      let value = try #require(Int(color.dropFirst(), radix: 16))
      return zip([0.2126, 0.7152, 0.0722], [16, 8, 0]).reduce(0) { sum, part in
        let share = Double(value >> part.1 & 255) / 255
        return sum + part.0 * (share <= 0.04045 ? share / 12.92 : pow((share + 0.055) / 1.055, 2.4))
      }
    }
    func contrast(_ a: Double, _ b: Double) -> Double { (max(a, b) + 0.05) / (min(a, b) + 0.05) }
    // A row of each share from 0 to 100 %.
    var scores = try EvaluationAccumulator(classes: ["a", "b"])
    var seen: Set<String> = []
    for hits in 1...20 {
      scores = try EvaluationAccumulator(classes: ["a", "b"])
      for sample in 0..<20 { try scores.add(logits: sample < hits ? [1, 0] : [0, 1], labels: [0]) }
      let lines = Plot.confusion(try scores.finish()).source.split(separator: "\n")
      for (cell, number) in zip(lines, lines.dropFirst())
      where cell.contains("stroke=\"#ffffff\"") && number.hasPrefix("<text") && number.contains("text-anchor=\"middle\"") {
        let under = try luminance(Substring(try #require(attribute("fill", cell)))), ink = try #require(attribute("fill", number))
        let found = contrast(under, try luminance(Substring(ink)))
        let others = try ["#ffffff", "#222222"].map { contrast(under, try luminance($0)) }
        #expect(found == others.max() && found > 3.9, "\(hits) of 20: \(found)")
        seen.insert(ink)
      }
    }
    #expect(seen == ["#ffffff", "#222222"])
  }

  @Test func namesFromFilesDoNotBreakTheFile() throws {
    let plot = Plot.confusion(try evaluation(["a<b>&\"c\"", "x\u{0}\u{1B}[31m", String(repeating: "long ", count: 40), "花"]))
    #expect(plot.source.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !plot.source.contains("\u{1B}") && !plot.source.contains("\u{0}"))
    try expectReadable(plot, "names")
  }

  /// What a parser of XML reads of the file.
  private final class Reading: NSObject, XMLParserDelegate {
    private(set) var texts: [String] = []
    private var isInText = false

    func parser(_ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?, attributes: [String: String]) {
      isInText = name == "text"
      if isInText { texts.append("") }
    }
    func parser(_ parser: XMLParser, foundCharacters string: String) { if isInText { texts[texts.count - 1] += string } }
    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) { isInText = false }
  }

  /// Signs of XML before marks that make one character with them, and scalars that XML does not know.
  @Test(arguments: ["<\u{301}a", "a&\u{200D}b", "a>\u{FE0F}", "'\u{301}\"\u{301}", "\u{301}a", "a\u{FFFE}b\u{FFFF}c", "\u{1FFFE}\u{10FFFF}"])
  func filesAreXMLWhateverTheNames(name: String) throws {
    let plot = Plot.confusion(try evaluation([name, "other"])), parser = XMLParser(data: Data(plot.source.utf8)), reading = Reading()
    parser.delegate = reading
    #expect(parser.parse(), "\(String(describing: parser.parserError))")
    let shown = String(String.UnicodeScalarView(name.unicodeScalars.map { [0xFFFE, 0xFFFF].contains($0.value) ? "\u{FFFD}" : $0 }))
    // Once for the row and once for the column; compared as scalars are, not as characters.
    #expect(reading.texts.filter { Array($0.unicodeScalars) == Array(shown.unicodeScalars) }.count == 2, "\(reading.texts)")
    #expect(plot.source.unicodeScalars.allSatisfy { $0 != "'" })
  }

  /// Controls of the direction of text would turn what comes after a name.
  @Test func namesTurnNothingAround() throws {
    let names = (0x202A...0x202E).map { UInt32($0) } + (0x2066...0x2069).map { UInt32($0) }
    let evaluation = try evaluation(names.map { "class\(String(Unicode.Scalar($0)!))\($0)" })
    for text in [evaluation.table(), Plot.confusion(evaluation).source] {
      for value in names {
        #expect(!text.unicodeScalars.contains(Unicode.Scalar(value)!))
        #expect(text.contains("class\u{FFFD}\(value)"))
      }
    }
  }

  @Test(arguments: [[1, 2, 5, 10, 25, 31], [1], [3, 3000], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
  func learningCurvesAreReadable(counts: [Int]) throws {
    let (x, y) = syntheticSamples(rows: 120, dimension: 3, classes: 3, seed: 2)
    let data = LinearTrainingData(train: try labelled(x, y), classes: ["a", "b", "c"])
    let curve = try LearningCurve(data, test: labelled(x, y), shots: counts.map { $0 } + [nil], seeds: 2) { _ in CentroidFitting() }
    let plot = try Plot.learningCurve(curve.points, title: "centroid head, 3 classes, 2 draws")
    try expectReadable(plot, "\(counts)")
    #expect(plot.source.contains(">labelled samples a class<") && plot.source.contains(">all (40)<"))
    #expect(throws: EvaluationError.self) { try Plot.learningCurve([], title: "") }
  }
}
