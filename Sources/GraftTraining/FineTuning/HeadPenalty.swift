extension Head {
  /// The penalty of the objective that the head was fitted to, as training by steps has it: beside the mean of the samples' losses.
  /// With another one, training would first of all undo the head.
  ///
  /// λ of a linear head is that already. Ridge minimises Σ‖y − Wx − b‖² + α‖W‖² over N rows, which is 2N times the mean of
  /// `Loss.squared`, ‖y − Wx − b‖²/2, + (α/N)/2 ‖W‖²: its λ is α/N. Ridge of classes fits ±1, and is tuned by cross-entropy, for which
  /// its α says nothing: no penalty.
  ///
  /// A head on standardised features was fitted to a penalty of σ_d·w_d, and its stored w_d take raw features: each column has the
  /// factor σ_d².
  ///
  /// - Parameters:
  ///   - training: the rows that the head was fitted to.
  ///   - name: how a message calls a row.
  /// - Throws: `TrainingDataError` for a feature that isn't finite, or what reading throws.
  public func tuningPenalty(training: any FeatureSource, name: (Int) -> String) throws -> Penalty {
    let strength: Double
    switch metadata.kind {
    case .ridge: strength = metadata.task == .classification ? 0 : metadata.l2 / Double(max(1, training.rowCount))
    default: strength = metadata.l2
    }
    guard strength > 0, metadata.featureNormalisation == .standardise else { return Penalty(strength) }
    let statistics = try FeatureStatistics(training, sampleLimit: 0, name: name)
    guard case .standardise(_, let inverseDeviation) = FeatureTransform(.standardise, statistics: statistics) else { return Penalty(strength) }
    return Penalty(strength, columnFactors: inverseDeviation.map { 1 / ($0 * $0) })
  }
}
