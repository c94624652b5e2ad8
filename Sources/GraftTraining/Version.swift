/// This release.
public enum GraftVersion {
  public static let text = "0.1.0"
}
