/// A share of the training samples set aside to choose λ on.
///
/// Each row decides by a hash of its key, so that adding samples moves none from one side to the other; then a class of
/// two rows or more that would be missing on one side gets its nearest row moved there. A class with a single row keeps
/// it for training. Rows of one key are views of one sample: they go to one side together, and of those held out the first alone is
/// looked at.
package struct Holdout {
  /// Ascending; every class is among them.
  package let training: [Int]
  /// Ascending.
  package let validation: [Int]

  package init(_ data: LabelledFeatures, classCount: Int, fraction: Double, seed: UInt64) {
    var rowsOfClass = [[Int]](repeating: [], count: classCount)
    for (row, label) in data.labels.enumerated() where rowsOfClass.indices.contains(label) { rowsOfClass[label].append(row) }
    self.init(rowCount: data.rowCount, keys: data.keys, classes: rowsOfClass, fraction: fraction, seed: seed)
  }

  /// Of samples without classes: only neither side may be left empty.
  package init(_ data: TargetedFeatures, fraction: Double, seed: UInt64) {
    self.init(rowCount: data.rowCount, keys: data.keys, classes: [Array(0..<data.rowCount)], fraction: fraction, seed: seed)
  }

  /// - Parameter rowsOfClass: the rows of each class.
  private init(rowCount: Int, keys: [String], classes rowsOfClass: [[Int]], fraction: Double, seed: UInt64) {
    let rank = (0..<rowCount).map { row in Self.uniform(keys.isEmpty ? "\(row)" : keys[row], seed: seed) }
    var isValidation = rank.map { $0 < fraction }
    var rowsOfKey: [String: [Int]] = [:]
    for (row, key) in keys.enumerated() { rowsOfKey[key, default: []].append(row) }
    func views(_ row: Int) -> [Int] { keys.isEmpty ? [row] : rowsOfKey[keys[row]] ?? [row] }
    for rows in rowsOfClass {
      let ordered = rows.sorted { (rank[$0], $0) < (rank[$1], $1) }
      guard let lowest = ordered.first, let highest = ordered.last else { continue }
      if isValidation[highest] { for row in views(highest) { isValidation[row] = false } }
      guard !views(lowest).contains(highest) else { continue }
      for row in views(lowest) { isValidation[row] = true }
    }
    training = isValidation.indices.filter { !isValidation[$0] }
    validation = isValidation.indices.filter { isValidation[$0] && views($0).first == $0 }
  }

  /// FNV-1a with a final mix, as a number in [0, 1); the same on every machine and in every run.
  private static func uniform(_ key: String, seed: UInt64) -> Double {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325 ^ seed
    for byte in key.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
    hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return Double((hash ^ hash >> 33) >> 11) * 0x1p-53
  }
}
