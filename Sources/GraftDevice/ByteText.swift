/// Byte counts in messages.
package enum ByteText {
  /// "512 bytes", "1.5 MiB", "4 GiB".
  package static func of(_ byteCount: Int) -> String {
    var (value, unit) = (Double(byteCount), 0)
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value.magnitude >= 1024, unit < units.count - 1 { (value, unit) = (value / 1024, unit + 1) }
    let rounded = (value * 10).rounded() / 10
    return rounded == rounded.rounded() ? "\(Int(rounded)) \(units[unit])" : "\(rounded) \(units[unit])"
  }
}
