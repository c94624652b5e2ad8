import Foundation
import GraftGraph

extension [EpochRecord] {
  /// A line an epoch, with a header; fields without a value are empty.
  public func writeCSV(to path: String) throws {
    let file = try AtomicFile(replacing: path)
    func text(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
    var lines = ["epoch,steps,learning_rate,train_loss,train_top1,validation_loss,validation_top1,gradient_norm,seconds"]
    for record in self {
      lines.append(
        "\(record.epoch),\(record.steps),\(record.learningRate),\(record.trainLoss),\(text(record.trainTop1)),\(text(record.validationLoss)),"
          + "\(text(record.validationTop1)),\(record.gradientNorm),\(record.seconds)")
    }
    try [UInt8]((lines.joined(separator: "\n") + "\n").utf8).withUnsafeBytes { try file.append($0) }
    try file.commit()
  }
}
