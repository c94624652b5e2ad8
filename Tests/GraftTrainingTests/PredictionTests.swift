import Foundation
import GraftTraining
import Testing

@Suite struct PredictionTests {
  private let classes = ["ant", "bee", "cow", "dog"]

  @Test func softmaxOfTheBest() throws {
    let prediction = try ImagePrediction(path: "p.jpg", logits: [0, 3, 1, 3], classes: classes, topK: 3)
    let total = 1 + 2 * exp(3.0) + exp(1.0)
    #expect(prediction.predictions.map(\.label) == ["bee", "dog", "cow"])
    #expect(abs(prediction.predictions[0].probability - exp(3) / total) < 1e-15)
    #expect(abs(prediction.predictions[2].probability - exp(1) / total) < 1e-15)
  }

  @Test func asManyAsThereAreAndNoOverflow() throws {
    let prediction = try ImagePrediction(path: "p.jpg", logits: [3e38, -3e38, 3e38, 0], classes: classes, topK: 99)
    #expect(prediction.predictions.map(\.label) == ["ant", "cow", "dog", "bee"])
    #expect(prediction.predictions.map(\.probability) == [0.5, 0.5, 0, 0])
  }

  @Test func jsonHasTheNamesThatOthersRead() throws {
    let prediction = ImagePrediction(path: "a/b.png", predictions: [.init(label: "ant", probability: 0.5)])
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let json = String(decoding: try encoder.encode([prediction]), as: UTF8.self)
    #expect(json == #"[{"path":"a/b.png","predictions":[{"label":"ant","probability":0.5}]}]"#)
  }

  @Test func refusesWhatItCannotRank() {
    for (logits, topK) in [([0, 1, 2], 1), ([0, 1, 2, 3], 0), ([0, 1, 2, .nan], 1), ([0, 1, .infinity, 0], 1), ([], 1)] as [([Float], Int)] {
      #expect(throws: EvaluationError.self) { try ImagePrediction(path: "p.jpg", logits: logits, classes: classes, topK: topK) }
    }
    for temperature in [0, -1, .nan, .infinity] as [Double] {
      #expect(throws: EvaluationError.self) {
        try ImagePrediction(path: "p.jpg", logits: [0, 1, 2, 3], classes: classes, topK: 1, temperature: temperature)
      }
    }
  }
}
