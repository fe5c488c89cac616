"""What a training run is made of, beside Lightning: losses, bags, mining, measures, pictures and the report."""
