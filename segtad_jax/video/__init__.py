"""From video files to features and detections: decoding, backbones, extraction."""
